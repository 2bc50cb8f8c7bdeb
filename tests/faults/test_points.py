"""Every named point of the storm is a place that exists: a renamed function would leave its state
without a kill.
"""

from __future__ import annotations

import importlib

import pytest

from tests.faults import storm, test_kill_points


@pytest.mark.parametrize("name", storm.POINTS)
def test_a_point_of_the_storm_exists(name):
    place, attribute, *_ = storm.POINTS[name]
    assert callable(
        getattr(importlib.import_module(place) if isinstance(place, str) else place, attribute)
    )


@pytest.mark.parametrize("point", test_kill_points.POINTS, ids=lambda point: point[0])
def test_a_kill_point_exists(point):
    _, place, attribute = point
    assert callable(
        getattr(importlib.import_module(place) if isinstance(place, str) else place, attribute)
    )
