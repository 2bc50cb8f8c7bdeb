"""Events: validated on the way in, and the same after a round trip through JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.privacy import events
from sfumato.privacy.events import Gaussian, Laplace, PoissonGaussian

rates = st.floats(1e-9, 1.0)
noises = st.floats(1e-3, 1e6)
counts = st.integers(1, 10**7)
any_event = st.one_of(
    st.builds(PoissonGaussian, rates, noises, counts),
    st.builds(Gaussian, noises, counts),
    st.builds(Laplace, noises),
)
bad_numbers = st.one_of(
    st.floats(max_value=0.0),
    st.sampled_from([math.nan, math.inf, -math.inf, True, None, "1", 1 + 0j]),
)


@settings(deadline=None)
@given(st.lists(any_event, max_size=5))
def test_json_round_trip(some):
    assert events.from_json(json.loads(json.dumps(events.to_json(some), allow_nan=False))) == tuple(
        some
    )


def test_json_form():
    assert events.to_json([PoissonGaussian(0.5, 2, 10), Gaussian(3), Laplace(1)]) == [
        {"type": "poisson_gaussian", "sampling_rate": 0.5, "noise_multiplier": 2.0, "steps": 10},
        {"type": "gaussian", "noise_multiplier": 3.0, "count": 1},
        {"type": "laplace", "epsilon": 1.0},
    ]


@settings(deadline=None)
@given(bad_numbers)
def test_numbers_out_of_range_are_refused(bad):
    for make in (
        lambda: PoissonGaussian(bad, 1.0, 1),
        lambda: PoissonGaussian(0.5, bad, 1),
        lambda: PoissonGaussian(0.5, 1.0, bad),
        lambda: Gaussian(bad),
        lambda: Gaussian(1.0, bad),
        lambda: Laplace(bad),
    ):
        with pytest.raises(ValueError) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate, steps", [(1.0000001, 1), (0.5, 1.0), (0.5, 0), (0.5, -1)])
def test_rate_and_steps(rate, steps):
    with pytest.raises(ValueError):
        PoissonGaussian(rate, 1.0, steps)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "shuffled_gaussian", "noise_multiplier": 1.0},
        {"noise_multiplier": 1.0, "count": 1},
        {"type": "gaussian", "noise_multiplier": 1.0},
        {"type": "gaussian", "noise_multiplier": 1.0, "count": 1, "note": "x"},
        {"type": "laplace", "epsilon": float("nan")},
        "gaussian",
    ],
)
def test_unknown_json_is_refused(item):
    with pytest.raises(ValueError):
        events.from_json([item])
