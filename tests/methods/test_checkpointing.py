"""--gradient-checkpointing: the same sums from less memory, kept by the run, refused where there is
none.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.bases import load_base
from sfumato.compute.memory import peak_bytes
from sfumato.errors import ModelError
from sfumato.gradients import Engine, self_check
from sfumato.methods.prepared import prepare_again
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.training.dummy import dummy_batch

CLASSES = ("circle", "cross", "square")


def made(whole_tiny_base, **more):
    said = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
    said |= {"noise_draws": 2, "precision": "float32"}
    task = task_of(base=str(whole_tiny_base), **said | more)[2]
    return prepare(PublicFacts(n_units=200, classes=CLASSES), task)


def summed(prepared, units=24):
    plan, adaptation = prepared.plan, prepared.adaptation
    batch = dummy_batch(prepared, units)
    with Engine(adaptation.model, adaptation.trainable) as engine:

        def work():
            return engine.clipped_sum(
                adaptation.row_losses,
                batch,
                draws=2,
                clip=plan.clip().factors,
                rounding=plan.rounding,
            )

        found = work()
        return found, peak_bytes(work)


@pytest.mark.parametrize("method", ["attention", "lora", "full"])
def test_the_sums_are_the_same_and_take_less_memory(whole_tiny_base, method):
    (right, norms), whole = summed(made(whole_tiny_base, method=method))
    less = made(whole_tiny_base, method=method, gradient_checkpointing=True)
    assert less.base.denoiser.is_gradient_checkpointing
    (found, lengths), peak = summed(less)
    assert torch.equal(lengths, norms) and all(torch.equal(found[n], right[n]) for n in right)
    # of this small model the whole one's own gradients are the peak
    assert peak <= (1 if method == "full" else 0.9) * whole, (peak, whole)
    adaptation = less.adaptation
    batch = dummy_batch(less, 3)
    assert not self_check(adaptation.model, adaptation.trainable, adaptation.exact_losses, batch, 2)


def test_a_run_keeps_it(whole_tiny_base):
    less = made(whole_tiny_base, gradient_checkpointing=True)
    assert less.options["performance"]["gradient_checkpointing"] is True
    again = prepare_again(less.method, less.plan, less.options)
    assert again.base.denoiser.is_gradient_checkpointing
    plain = less.options | {"performance": dict(less.options["performance"])}
    del plain["performance"]["gradient_checkpointing"]  # of a run made before
    assert not prepare_again(less.method, less.plan, plain).base.denoiser.is_gradient_checkpointing


def test_a_denoiser_without_it_is_refused(whole_tiny_base):
    base = load_base(whole_tiny_base)
    plain = replace(base, unet=torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="a Linear has none: leave it out"):
        plain.checkpoint_gradients()
