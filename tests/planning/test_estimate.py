"""What a run will take: the microbatch that fits, and the time, on dummy images."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from sfumato.compute.memory import peak_bytes
from sfumato.errors import MachineError, SfumatoError
from sfumato.gradients import Engine, self_check
from sfumato.methods import room
from sfumato.options import Performance, Recipe, parse
from sfumato.planning.estimate import estimate, fit_to_machine
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.privacy.clipping import flat
from sfumato.training.dummy import dummy_batch

MEASURED_MEMORY = True  # conftest.py

CLASSES = ("circle", "cross", "square")


def ready(tiny_base, **more):
    facts = PublicFacts(n_units=200, classes=CLASSES)
    more = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3} | more
    return prepare(facts, task_of(base=str(tiny_base), **more)[2])


def test_the_dummy_batch_fits_the_base_and_passes_the_check(tiny_base):
    made = ready(tiny_base, noise_draws=3, embedder=True)
    batch = dummy_batch(made, 4)
    assert batch.noise.shape == (4, 3, 4, 8, 8) and len(batch) == 4
    adaptation = made.adaptation
    assert (
        self_check(adaptation.model, adaptation.trainable, adaptation.exact_losses, batch, 3) == []
    )


def test_the_estimate_is_positive_and_follows_the_plan(tiny_base):
    made = ready(tiny_base, performance=Performance(micro_batch=4), recipe=Recipe())
    found = estimate(made)
    assert found.seconds > 0 and found.peak_bytes > 1e6
    expected = made.plan.noise_multiplier * made.plan.sensitivity * made.plan.trainable**0.5 / 20
    assert found.noise_norm == pytest.approx(expected) and found.signal_bound == made.plan.clip_norm
    assert not any(p.grad is not None for p in made.adaptation.trainable.values())


@pytest.mark.parametrize("budget", [2**20, 3 * 2**20])
def test_the_micro_batch_fits_the_budget(tiny_base, budget):
    performance = Performance(memory_budget=budget, precision="float32")
    made = fit_to_machine(
        ready(tiny_base, noise_draws=2, expected_batch_size=190, performance=performance)
    )
    units, adaptation = made.performance.micro_batch, made.adaptation
    assert made.options["performance"]["micro_batch"] == units
    assert sum(made.options["strategies"].values()) > 0
    with Engine(adaptation.model, adaptation.trainable) as engine:

        def peak(units):
            batch = dummy_batch(made, units)
            return peak_bytes(
                lambda: engine.clipped_sum(
                    adaptation.row_losses, batch, draws=2, clip=flat(1.0).factors
                )
            )

        assert peak(units) <= budget < peak(4 * units)


def test_a_micro_batch_that_was_asked_for_stays(tiny_base):
    asked = ready(tiny_base, performance=Performance(micro_batch=3))
    made = fit_to_machine(asked)
    assert made.performance == asked.performance and "strategies" in made.options
    slow = fit_to_machine(ready(tiny_base, performance=Performance(engine="reference")))
    # a resume reads the options
    assert slow.performance.micro_batch == slow.options["performance"]["micro_batch"] == 1


def test_a_layer_without_a_rule_is_one_line(tiny_base):
    made = ready(tiny_base)
    name, module = next(
        (n, m) for n, m in made.adaptation.model.named_modules() if isinstance(m, nn.Conv2d)
    )
    parent = made.adaptation.model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.BatchNorm2d(module.out_channels))
    for check in (fit_to_machine, estimate):
        with pytest.raises(SfumatoError, match="cannot be adapted by this method: .*BatchNorm2d"):
            check(made)


def test_a_budget_below_one_picture_says_what_one_takes(tiny_base):
    def fitted(bytes_):
        asked = Performance(memory_budget=bytes_, precision="float32")
        return fit_to_machine(ready(tiny_base, performance=asked)).performance.micro_batch

    said = "--memory-budget 1MB: one unit takes 1MB in one pass: give that; --gradient-checkp"
    with pytest.raises(SfumatoError, match=said):
        fitted(1000)
    assert fitted(parse.size("1MB")) >= 1  # what it says is enough
    assert (room.shown(2**20 + 1), room.shown(3 * 2**30 + 1)) == ("2MB", "3.1GB")


def test_without_a_budget_the_host_has_a_gigabyte_and_never_refuses(tiny_base, monkeypatch):
    asked = Performance(precision="float32")
    assert fit_to_machine(ready(tiny_base, performance=asked)).performance.micro_batch > 1
    monkeypatch.setattr(room, "ON_HOST", 1000)
    assert fit_to_machine(ready(tiny_base, performance=asked)).performance.micro_batch == 1


def test_a_gpu_has_what_its_allocator_has_left(tiny_base, monkeypatch):
    free = 2**40
    monkeypatch.setattr(room, "free_bytes", lambda where: free)
    made = ready(tiny_base, performance=Performance(precision="float32"))
    assert room.budget(None, made.base.device, 10**6) == int(0.8 * (free - 12 * 10**6))
    assert room.budget(7, made.base.device, 10**6) == 7
    assert fit_to_machine(made).performance.micro_batch == 25
    free = 2000
    with pytest.raises(MachineError, match=r"one unit takes 1MB .* has 1MB for it: --gradient-ch"):
        fit_to_machine(made)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"),
              RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"), MemoryError()],
)  # fmt: skip
def test_a_trial_pass_without_memory_is_one_line(tiny_base, monkeypatch, error):
    def full(*_, **__):
        raise error

    made = ready(tiny_base)
    monkeypatch.setattr(Engine, "clipped_sum", full)
    with pytest.raises(MachineError, match="a trial pass does not fit into memory"):
        fit_to_machine(made)
    asked = dataclasses.replace(made, performance=Performance(micro_batch=4))
    with pytest.raises(MachineError, match="does not fit into memory"):
        fit_to_machine(asked)
