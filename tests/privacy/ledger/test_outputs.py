"""Outputs of a charged run: a plan that is charged after one of them is composed adaptively."""

from __future__ import annotations

import pytest

from sfumato.privacy.ledger import entries, notes
from sfumato.privacy.ledger.entries import Entry
from sfumato.privacy.ledger.outputs import FORMER, OUTPUTS
from sfumato.privacy.ledger.runs import RunLedger

from .test_ledger import A, begin, charge, ledger, path  # noqa: F401 (fixtures)

OF_A_RUN = {
    "the scores of a probe": entries.Probed(
        attempt=0, scores=[0.5], selected=["a"], targets=["a"], trainable=3
    ),
    "the class moments of a warm-up": notes.MomentsMade(moments="ab", attempt=0),
    "votes for a base": notes.Matched(
        matched=["a", "b"], shares=[0.4, 0.6], noise_multiplier=2.0, features="x", chosen=1
    ),
    "rounds of votes that shards hand each other": notes.Interval(interval=[0, 1], attempt=0),
    "the noisy tokens of an inversion": notes.Aggregated(aggregated="ab", attempt=0),
    "a checkpoint, of steps or of rounds": notes.CheckpointMade(
        made="checkpoint", checkpoint=3, attempt=0, sha256="ab"
    ),
    "a checkpoint of an earlier version": notes.CheckpointMade(checkpoint=3, attempt=0),
    "weights": notes.Made(made="control", blocks="ab"),
    "pictures": notes.Shown(shown=3, attempt=0),
    "the model": notes.ModelMade(model="ab", attempt=0),
    "a release": entries.Released(sort="images"),
}
# Rows of what no private image has decided, of private data that nobody has seen under noise yet,
# or of what an output came before; exact figures are looks, and no claim covers what they led to.
NONE = {
    *(entries.Opened, entries.Joined, entries.Capped, entries.Reset, entries.OnDisk),
    *(entries.Planned, entries.Charge, entries.Charged, entries.TakenAsPublic, entries.Attempt),
    *(entries.Replayed, entries.Certified, entries.Looked),
    *(notes.Begun, notes.Upgraded, notes.Stopped, notes.Audited, notes.Finished),
}


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_plan_after_an_output_is_composed_adaptively(ledger, name):  # noqa: F811
    charge(ledger, [A], "one")
    begin(ledger, "one")
    asked = []
    seen = lambda charges, released: asked.append(released) or 1.0  # noqa: E731
    charge(ledger, [A], "two", price=seen)
    RunLedger(ledger, "one").enter(OF_A_RUN[name])
    # both were planned before anybody saw it
    assert ledger.group(ledger.identify([A])).released
    assert not ledger.group(ledger.identify([A])).adaptive
    charge(ledger, [A], "three", price=seen)
    assert asked == [False, True] and ledger.group(ledger.identify([A])).adaptive


def test_a_run_that_has_made_nothing_yet_is_no_output(ledger):  # noqa: F811
    charge(ledger, [A], "one")
    begin(ledger, "one")
    charge(ledger, [A], "two")
    assert not ledger.group(ledger.identify([A])).adaptive


def test_every_sort_of_row_is_an_output_or_known_not_to_be_one():
    sorts = {
        sort
        for module in (entries, notes)
        for sort in vars(module).values()
        if isinstance(sort, type) and issubclass(sort, Entry) and hasattr(sort, "KIND")
    } - {notes.Note}
    assert sorts - set(OUTPUTS) == NONE and set(OUTPUTS) < sorts
    assert set(FORMER) < set(OUTPUTS)
