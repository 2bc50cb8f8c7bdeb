"""Before the charge the machine is asked whether one record moves the integer sum by its bound at
most.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.errors import MachineError, ModelError
from sfumato.methods import Lora, checks
from sfumato.methods.checks import check_gradients, check_neighbours
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.records import load_records


@pytest.fixture
def prepared(tiny_images, tiny_base):
    records = load_records(tiny_images, classes=["circle", "cross", "square"])
    return prepare(
        PublicFacts.of(records),
        task_of(
            epsilon=8.0,
            delta=1e-3,
            method=Lora(rank=2),
            base=str(tiny_base),
            steps=2,
            clip_norm=1e-3,
        )[2],
    )


def test_records_that_leave_each_other_alone_pass(prepared):
    check_neighbours(prepared)


def test_a_record_that_changes_the_others_is_refused(prepared, monkeypatch):
    """A loss that couples the rows only where the loop computes it: the comparison with autograd
    does not see it.
    """
    right = prepared.adaptation.row_losses

    def coupled(batch):
        # another record's presence turns every gradient round
        sign = 1.0 if bool((batch.weight > 0).all()) else -1.0
        return right(batch) * sign

    object.__setattr__(prepared.adaptation, "row_losses", coupled)
    with pytest.raises(ModelError, match="gradients of others|more than its bound"):
        check_gradients(prepared, lambda stage: None)
    assert not any(
        torch.is_grad_enabled() and p.grad is not None
        for p in prepared.adaptation.trainable.values()
    )


def test_a_device_that_makes_other_noise_is_refused(prepared, monkeypatch):
    asked = []

    def wrong(device):
        asked.append(device)
        raise ValueError("this device does not compute the run key's numbers")

    monkeypatch.setattr(checks, "check_device", wrong)
    with pytest.raises(MachineError, match="the run key's numbers"):
        check_gradients(prepared, lambda stage: None)
    assert asked == [next(iter(prepared.adaptation.trainable.values())).device]


@pytest.mark.parametrize("micro_batch", [2, 12])
def test_a_little_of_another_record_is_enough_to_refuse(prepared, micro_batch):
    """Far less than the bound shows, in the run's own microbatch, which may be longer than the
    check's least.
    """
    right, sizes = prepared.adaptation.row_losses, []

    def coupled(batch):
        sizes.append(len(batch))
        return right(batch) * (1 + 1e-5 * batch.weight.sum())

    changed = replace(
        prepared,
        adaptation=replace(prepared.adaptation, row_losses=coupled),
        performance=replace(prepared.performance, micro_batch=micro_batch),
    )
    with pytest.raises(RuntimeError, match="gradients of others"):
        check_neighbours(changed)
    # three records are tried row by row before the first larger pass
    assert set(sizes) == {3, max(3, micro_batch)}


def test_a_loss_that_the_longest_prompt_of_a_pass_changes_is_refused(prepared):
    """As of denoisers that cut and pad texts to the longest of a batch: weights say nothing of it.

    Alone, a record is safe.
    """
    right, words = prepared.adaptation.row_losses, prepared.plan.prompts
    lengths = torch.tensor([*map(len, words), 0])
    assert len(set(lengths.tolist())) > 2

    def coupled(batch):
        return right(batch) * (1 + 1e-5 * lengths[batch.label].max())

    adaptation = replace(prepared.adaptation, row_losses=coupled)
    for units, refused in ((1, False), (3, True)):
        changed = replace(
            prepared,
            adaptation=adaptation,
            performance=replace(prepared.performance, micro_batch=units),
        )
        if refused:
            with pytest.raises(RuntimeError, match="gradients of others"):
                check_neighbours(changed)
        else:
            check_neighbours(changed)
