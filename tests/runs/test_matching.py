"""Votes for bases: one of norm 1 for each unit whatever else is there, and by the rule that the
plan names.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy.mechanisms.base_vote import LIKELIEST, NEAREST
from sfumato.privacy.mechanisms.histogram import GRID, VoteHistogram
from sfumato.records import RecordSet
from sfumato.runs import matching
from sfumato.runs.matching import FORMER, TODAY, bases_named, comparison_of, owned

SIDE, BASES = 16, 3


def some(rng, n: int) -> np.ndarray:
    """Pictures with a pattern in common, faint, so that votes are close."""
    pattern = 20 * np.sin(np.arange(SIDE) / 2)[:, None, None]
    return (128 + pattern + rng.integers(-40, 40, (n, SIDE, SIDE, 3))).astype(np.uint8)


def table_of(by, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return by.table_of([by.of_pictures(some(rng, 30)) for _ in range(BASES)])


def records(n: int, units: int, seed: int = 1) -> RecordSet:
    rng = np.random.default_rng(seed)
    unit = np.sort(np.concatenate([np.arange(units), rng.integers(0, units, n - units)]))
    none = np.zeros(n, np.int64)
    return RecordSet(
        "made", "array", ("a",), none, unit, None, np.ones(n, bool), array=some(rng, n)
    )


def without(own: RecordSet, unit: int) -> RecordSet:
    kept = own.unit != unit
    return replace(own, usable=kept, array=own.array * kept[:, None, None, None])


@pytest.mark.parametrize("by", [TODAY, FORMER], ids=["today", "former"])
def test_a_unit_moves_the_votes_by_one_at_most_in_500_neighbours(by, monkeypatch):
    """And the votes of no other image, to the last bit; whatever stands in its place."""
    monkeypatch.setattr(matching, "BATCH", 7)
    table, voting = table_of(by), VoteHistogram(BASES, 1, 1, by.features)
    moved = []
    for trial in range(100):
        whole = records(20, 5, trial)
        named = bases_named(whole, SIDE, table, by)
        total = voting.total(named[:, None], owned(whole))
        assert (named >= 0).all()
        for unit in range(5):
            less = bases_named(without(whole, unit), SIDE, table, by)
            kept = whole.unit != unit
            assert np.array_equal(less[kept], named[kept]) and (less[~kept] == -1).all()
            gone = voting.total(less[:, None], owned(whole))
            moved.append(np.linalg.norm((total - gone).astype(float)) / GRID)
    assert len(moved) == 500 and 0.9 < max(moved) <= 1 + 1e-9


@pytest.mark.parametrize("by", [TODAY, FORMER], ids=["today", "former"])
def test_neither_order_nor_batch_decides_a_vote(by, monkeypatch):
    own, table = records(200, 50), table_of(by)
    named = bases_named(own, SIDE, table, by)
    assert len(np.unique(named)) == BASES
    order = np.random.default_rng(2).permutation(200)
    fields = ("labels", "unit", "usable", "array")
    mixed = replace(own, **{name: getattr(own, name)[order] for name in fields})
    monkeypatch.setattr(matching, "BATCH", 64)
    assert np.array_equal(bases_named(mixed, SIDE, table, by), named[order])


def test_no_unit_changes_the_batches(monkeypatch):
    monkeypatch.setattr(matching, "BATCH", 64)
    own, table, seen = records(150, 30), table_of(TODAY), []
    by = replace(
        TODAY, of_pictures=lambda shown: seen.append(shown.shape) or TODAY.of_pictures(shown)
    )
    bases_named(own, SIDE, table, by)
    whole, seen[:] = list(seen), []
    bases_named(replace(own, usable=own.unit % 2 == 0), SIDE, table, by)
    assert seen == whole and [shape[0] for shape in whole] == [64, 64, 22]


def test_a_plan_is_asked_by_its_own_rule_in_its_own_space():
    assert comparison_of("pixels, 16 x 16", NEAREST) is FORMER
    assert comparison_of(TODAY.features, LIKELIEST) is TODAY
    for features, rule in ((FORMER.features, LIKELIEST), (TODAY.features, NEAREST), ("x", NEAREST)):
        with pytest.raises(SfumatoError, match="resume with the version that made it"):
            comparison_of(features, rule)
