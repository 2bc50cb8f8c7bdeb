"""Per-group clipping through the loop: what one unit moves, all groups together, and no group
beyond its own share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.options import Performance, Recipe
from sfumato.training import State, latest_checkpoint, loop, write_checkpoint

C = 0.5
PER_GROUP = {"clipping": "per-group", "clip_groups": 2}
NORMALISED = {"clipping": "per-group-normalised", "clip_groups": 2, "gamma": 1e-4, "clip_norm": 1.0}


def run(plan, adaptation, data, key, *, state=None, stop_at=99, engine="one-pass"):
    state = state or State(adaptation.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
    performance = Performance(micro_batch=3, engine=engine)
    loop.train(
        plan,
        adaptation,
        data,
        key,
        attempt=0,
        recipe=Recipe(learning_rate=4e-3, ema_decay=0.9),
        performance=performance,
        state=state,
        on_step=lambda progress, _: progress.step < stop_at,
    )
    return state


@pytest.fixture
def sums(monkeypatch):
    """The integers that would have got noise, and of which standard deviation."""
    seen = []

    def keep(sums, key, step, attempt, *, multiplier, bound):
        seen.append(({name: value.double() for name, value in sums.items()}, multiplier * bound))
        return {name: value + 1 for name, value in sums.items()}

    monkeypatch.setattr(loop, "add_integer_noise", keep)
    return seen


def moved(plan, sums, names=None):
    (first, _), (second, _) = sums
    return (
        float(torch.cat([(first[n] - second[n]).flatten() for n in names or first]).norm())
        * plan.rounding.step
    )


@pytest.mark.parametrize("rule", [PER_GROUP, NORMALISED], ids=["clipped", "normalised"])
@pytest.mark.parametrize("engine", ["one-pass", "reference"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, float("nan")])
def test_one_unit_moves_the_sum_by_at_most_the_total(
    plan_for, toy, latents, key, sums, rule, engine, scale
):
    plan, data = plan_for(8, 8, steps=1, draws=2, **{"clip_norm": C, **rule}), latents(8)
    data.mean[3] *= np.float16(scale)
    gone = data.label.copy()
    gone[3] = -1
    adaptation = toy(scale=1e3)  # so that every group of the unit is at its bound
    run(plan, adaptation, data, key, engine=engine)
    run(plan, toy(scale=1e3), replace(data, label=gone), key, engine=engine)
    assert all(stddev == plan.noise_multiplier * plan.rounding.bound for _, stddev in sums)
    total = moved(plan, sums)
    assert total <= plan.clip_norm * (1 + 1e-5)
    shares = [moved(plan, sums, names) for names in adaptation.clip_groups.values()]
    assert max(shares) <= plan.clip_norm / 2**0.5 * (1 + 1e-5)
    if np.isnan(scale):
        assert total == 0
    elif scale <= 1:  # beyond, tanh is flat and the first group's gradient with it
        # One group's bound would not have been enough: the test would see noise for C / sqrt(2)
        # only.
        assert total > 0.99 * plan.clip_norm


@pytest.mark.parametrize("rule", [PER_GROUP, NORMALISED], ids=["clipped", "normalised"])
def test_both_engines_and_all_micro_batches_agree(plan_for, toy, latents, key, sums, rule):
    plan, data = plan_for(8, 8, steps=1, draws=2, **{"clip_norm": 0.05, **rule}), latents(8)
    run(plan, toy(), data, key)
    run(plan, toy(), data, key, engine="reference")
    # single precision, and a grid unit in each number
    assert moved(plan, sums) < 2e-4 * 8 * plan.clip_norm


def test_one_group_of_all_is_the_flat_clip(plan_for, toy, latents, key, sums):
    data, whole = latents(8), toy()
    plan = plan_for(8, 8, steps=1, clip_norm=0.05)
    run(plan, toy(), data, key)
    whole.clip_groups = {"all": [name for names in whole.clip_groups.values() for name in names]}
    run(
        plan_for(8, 8, steps=1, clip_norm=0.05, clipping="per-group", clip_groups=1),
        whole,
        data,
        key,
    )
    assert sums[0][1] == sums[1][1] and moved(plan, sums) == 0


@pytest.mark.parametrize("groups", [1, 3])
def test_groups_that_are_not_the_plans_are_refused(plan_for, toy, latents, key, groups):
    with pytest.raises(SfumatoError, match=f"among {groups} groups, but 2 train"):
        run(plan_for(8, 4, clipping="per-group", clip_groups=groups), toy(), latents(8), key)


def test_a_resumed_loop_ends_with_the_same_bits(plan_for, toy, latents, key, tmp_path):
    plan, data = plan_for(20, 8, steps=5, draws=2, clip_norm=0.05, **PER_GROUP), latents(20)
    straight = run(plan, toy(), data, key)
    write_checkpoint(tmp_path, run(plan, toy(), data, key, stop_at=2), 0, key.id, plan.digest)
    facts, tensors = latest_checkpoint(tmp_path)
    second = toy(seed=9)
    state = State(second.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
    state.restore(tensors, facts["step"])
    run(plan, second, data, key, state=state)
    flat = run(plan_for(20, 8, steps=5, draws=2, clip_norm=0.05), toy(), data, key)
    for name, value in straight.tensors().items():
        assert torch.equal(value, state.tensors()[name]), name
    assert any(
        not torch.equal(value, flat.tensors()[name]) for name, value in straight.tensors().items()
    )
