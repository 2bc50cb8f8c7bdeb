"""A plan follows from public facts alone, and a leak into one would be seen."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.compute import clocks, device
from sfumato.errors import DataError
from sfumato.planning import estimate as estimating
from sfumato.planning import inputs, timing
from sfumato.planning.facts import PublicFacts, require_clear_units, require_list
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.records import RecordSet
from sfumato.records.recordset import Facts

CLASSES = ("circle", "cross", "square")
UNITS = 40


def private_set(which: int) -> RecordSet:
    """One of two sets that agree in their public facts and in nothing else."""
    rng = np.random.default_rng(which)
    n = 2 * UNITS + 7 * which
    unit = np.concatenate([np.arange(UNITS), rng.integers(0, UNITS, n - UNITS)])
    return RecordSet(
        source=f"/home/{which}/images",
        kind=("folder", "table")[which],
        classes=CLASSES,
        labels=rng.choice(3, n, p=[(0.8, 0.1, 0.1), (0.1, 0.1, 0.8)][which]),
        unit=unit,
        unit_column="patient",
        usable=unit >= 3 * which,
        captions=tuple(f"a {CLASSES[which]} of case {i}" for i in range(n)),
        facts=Facts(
            sizes=np.full((n, 2), 16 + which),
            units=tuple(b"%d %d" % (which, u) for u in unit),
            bad={"decode": which},
            respelt=which,
        ),
        array=rng.integers(0, 256, (n, 16, 16), dtype=np.uint8),
    )


@pytest.fixture
def all_that_is_said(tiny_base, monkeypatch):
    """What `plan` makes of records before a charge, as bytes: plan, options and estimate. A clock
    of our own, since the estimate times dummy data.
    """
    clock = SimpleNamespace()
    for room in (clocks, timing):
        monkeypatch.setattr(room, "time", clock)
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=2**30))
    monkeypatch.setattr(device, "psutil", SimpleNamespace(Process=lambda: memory))

    def said(records: RecordSet, captions: bool = True, **more) -> bytes:
        clock.perf_counter = itertools.count().__next__
        asked = {"base": str(tiny_base), "epsilon": 2.0, "delta": 1e-3}
        # allowed, so that a caption among the classes is seen by the comparison and no other guard
        asked |= more or {"steps": 3}
        asked |= {} if captions else {"condition": "classes"}
        task = task_of(**asked, max_per_unit=4, allow_caption_prompts=True)[2]
        prepared = inputs.prepare_as_asked(records, task)
        found = estimating.estimate(prepared)
        fitted = estimating.fit_to_machine(prepared)
        parts = prepared.plan.to_json(), prepared.options, fitted.options, asdict(found)
        return json.dumps(parts, sort_keys=True).encode()

    return said


def test_sets_with_equal_public_facts_make_the_same_plan(all_that_is_said):
    first, second = private_set(0), private_set(1)
    assert PublicFacts.of(first) == PublicFacts.of(second)
    assert all_that_is_said(first) == all_that_is_said(second)
    # and where the schedule is solved for a time
    assert all_that_is_said(first, time="3h") == all_that_is_said(second, time="3h")


@pytest.mark.parametrize(
    "leak",
    [
        lambda r: {"n_units": len(np.unique(r.unit[r.usable]))},
        lambda r: {"n_units": r.n},
        lambda r: {"classes": tuple(CLASSES[i] for i in np.argsort(np.bincount(r.labels)))},
        lambda r: {"classes": tuple(f"{c} {int(r.array.mean() * 1e6)}" for c in CLASSES)},
        lambda r: {"classes": (r.captions[0], *CLASSES)},
        lambda r: {"unit_column": r.source},
        lambda r: {"classes_found": bool(r.facts.bad["decode"])},
    ],
    ids=["usable units", "slots", "class counts", "pixels", "captions", "source", "unreadable"],
)
def test_a_leak_into_a_plan_is_seen(all_that_is_said, monkeypatch, leak):
    """Each planted on purpose: then the comparison above fails."""

    class Leaking(PublicFacts):
        @classmethod
        def of(cls, records):
            return replace(PublicFacts.of(records), **leak(records))

    monkeypatch.setattr(inputs, "PublicFacts", Leaking)
    first, second = (all_that_is_said(private_set(i), captions=False) for i in (0, 1))
    assert first != second


def test_a_plan_takes_public_facts_and_nothing_that_looks_like_them(tiny_base):
    """Records have the same attributes and pixels beside; so might a class derived from facts."""

    class More(PublicFacts):
        pass

    for other in (private_set(0), SimpleNamespace(**asdict(PublicFacts(40, CLASSES)))):
        with pytest.raises(TypeError, match="PublicFacts.of"):
            prepare(other, task_of(epsilon=2.0, base=str(tiny_base))[2])
    with pytest.raises(TypeError, match="PublicFacts.of"):
        prepare(More(40, CLASSES), task_of(epsilon=2.0, base=str(tiny_base))[2])
    with pytest.raises(AttributeError):
        object.__setattr__(PublicFacts(40, CLASSES), "labels", [0])


def test_rare_classes_and_doubtful_units_are_counts_that_refuse():
    few = replace(private_set(0), few={"triangle": 2})
    with pytest.raises(DataError, match="1 of the 4 classes found in the data have fewer"):
        require_list(PublicFacts.of(few))
    doubtful = replace(private_set(0), facts=Facts(doubtful=2))
    facts = PublicFacts.of(doubtful)
    with pytest.raises(DataError, match="2 values of 'patient' may be spellings"):
        require_clear_units(facts, False)
    assert require_clear_units(facts, True) == 2
    assert PublicFacts.of(replace(doubtful, unit_column=None)).doubtful == 0
