"""The DP loop: sensitivity, measured noise, empty draws, non-finite records, invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.errors import SfumatoError
from sfumato.gradients import Engine, ReferenceEngine
from sfumato.options import Performance, Recipe
from sfumato.privacy.clipping import ROUNDING, flat
from sfumato.training import State, UnitBatch, loop

C = 0.5


class Recorder:
    """In the optimiser's place: keeps the gradients it is given."""

    def __init__(self, trainable):
        self.param_groups = [{"params": [p], "factor": 1.0, "lr": 0.0} for p in trainable.values()]
        self.trainable, self.seen, self.rates = trainable, [], []
        self.state = {}

    def step(self):
        self.seen.append(torch.cat([p.grad.flatten().clone() for p in self.trainable.values()]))
        self.rates.append(self.param_groups[0]["lr"])
        with torch.no_grad():
            for p in self.trainable.values():
                p.add_(1e-3)

    def zero_grad(self, set_to_none=True):
        for p in self.trainable.values():
            p.grad = None


def run(
    plan,
    adaptation,
    data,
    key,
    *,
    optimizer=None,
    attempt=0,
    recipe=None,
    on_step=None,
    **performance,
):
    recipe = recipe or Recipe(learning_rate=4e-3, ema_decay=0.5)
    state = State(adaptation.trainable, adaptation.learning_rate_factor, recipe)
    if optimizer is not None:
        state.optimizer = optimizer
    finished = loop.train(
        plan,
        adaptation,
        data,
        key,
        attempt=attempt,
        recipe=recipe,
        performance=Performance(**{"micro_batch": 4, **performance}),
        state=state,
        on_step=on_step or (lambda progress, state: True),
    )
    return state, finished


def weights(state):
    return torch.cat([p.detach().flatten() for p in state.trainable.values()])


def clipped_sum(
    adaptation, data, key, units, draws=1, micro_batch=None, engine=Engine, clip_norm=C
):
    """In float64, not in grid units."""
    batch = UnitBatch(data, np.asarray(units), key, 0, 0, draws, 1.5, 0.0, 1000)
    with engine(adaptation.model, adaptation.trainable) as opened:
        sums, norms = opened.clipped_sum(
            adaptation.row_losses,
            batch,
            draws=draws,
            clip=flat(clip_norm).factors,
            micro_batch=micro_batch,
        )
    return torch.cat([v.flatten().double() for v in sums.values()]), norms


@pytest.fixture
def pre_noise(monkeypatch):
    """Noise switched off; the integers that would have got it are kept."""
    seen = []

    def keep(sums, key, step, attempt, *, multiplier, bound):
        assert all(value.dtype == torch.int64 for value in sums.values())
        seen.append(torch.cat([v.flatten() for v in sums.values()]))
        return {name: value + 1 for name, value in sums.items()}

    monkeypatch.setattr(loop, "add_integer_noise", keep)
    return seen


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3, float("inf"), float("nan")])
def test_one_unit_moves_the_sum_by_at_most_c(plan_for, toy, latents, key, pre_noise, draws, scale):
    plan, data = plan_for(8, 8, steps=1, draws=draws, clip_norm=C), latents(8)
    data.mean[3] *= np.float16(scale)
    gone = data.label.copy()
    gone[3] = -1
    run(plan, toy(), data, key)
    run(plan, toy(), replace(data, label=gone), key)
    with_unit, without = pre_noise
    assert int((with_unit - without).square().sum()) <= plan.rounding.bound**2
    if not np.isfinite(scale):
        assert torch.equal(with_unit, without)


def test_a_unit_that_is_gone_keeps_its_place(plan_for, toy, latents, key, pre_noise):
    """Microbatches are cut by drawn slot, whatever lies in it: else one unit less would put all
    others into other company.
    """
    plan, data, seen = plan_for(10, 10, steps=1), latents(10), []
    gone = data.label.copy()
    gone[1] = -1
    for held in (data, replace(data, label=gone)):
        adaptation, cuts = toy(), []
        right = adaptation.row_losses
        adaptation.row_losses = lambda batch, right=right, cuts=cuts: (
            cuts.append(batch.noise) or right(batch)
        )
        run(plan, adaptation, held, key)
        seen.append(cuts)
    assert [len(cut) for cut in seen[0]] == [len(cut) for cut in seen[1]]
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.mark.parametrize(
    "rule", [{"clip_norm": C}, {"clipping": "normalised", "gamma": 0.01, "clip_norm": 1.0}]
)
def test_one_unit_moves_the_sum_by_at_most_c_in_every_step(
    plan_for, toy, latents, key, monkeypatch, rule
):
    """Nothing of an earlier step or microbatch is left in a later sum. The updates are equal, so
    only the unit differs.
    """
    seen = []

    def keep(sums, key, step, attempt, *, multiplier, bound):
        seen.append(torch.cat([v.flatten().clone() for v in sums.values()]))
        return {name: torch.full_like(value, 1000) for name, value in sums.items()}

    monkeypatch.setattr(loop, "add_integer_noise", keep)
    plan, data = plan_for(8, 8, steps=4, **rule), latents(8)
    gone = data.label.copy()
    gone[3] = -1
    for held in (data, replace(data, label=gone)):
        run(plan, toy(scale=100.0), held, key)
    bound = plan.rounding.bound
    for with_unit, without in zip(seen[:4], seen[4:], strict=True):
        assert 0.9 * bound < float((with_unit - without).double().norm()) <= bound


def test_the_difference_is_the_clipped_gradient_of_the_unit_that_is_gone(toy, latents, key):
    data, adaptation = latents(9), toy()
    whole, norms = clipped_sum(adaptation, data, key, range(9), draws=2)
    alone, alone_norm = clipped_sum(adaptation, data, key, [4], draws=2)
    rest, _ = clipped_sum(adaptation, data, key, [0, 1, 2, 3, 5, 6, 7, 8], draws=2)
    assert norms[4] == pytest.approx(float(alone_norm[0]), rel=1e-6)
    assert (whole - rest - alone).norm() < 1e-5 * C
    assert (whole - rest).norm() == pytest.approx(min(C * ROUNDING, float(norms[4])), rel=1e-5)


def test_a_unit_with_many_images_adds_no_more_than_c(toy, latents, key):
    unit = [0] * 20 + [1, 2, 2]
    adaptation = toy(scale=100.0)
    for draws in (1, 4):
        total, norms = clipped_sum(adaptation, latents(23, unit), key, [0], draws=draws)
        assert norms[0] > C
        assert total.norm() <= C * (1 + 1e-5)


def test_draws_are_averaged_inside_the_unit_before_the_clip(toy, latents, key):
    """K draws make one gradient: with no clip in reach the norm is that of a mean, and one unit
    counts once.
    """
    data, adaptation = latents(3), toy()
    total, norms = clipped_sum(adaptation, data, key, [1], draws=8, clip_norm=1e6)
    reference, expected = clipped_sum(
        adaptation, data, key, [1], draws=8, clip_norm=1e6, engine=ReferenceEngine
    )
    assert len(norms) == 1 and torch.allclose(total, reference, rtol=1e-4, atol=1e-7)
    assert (
        norms[0]
        == pytest.approx(float(expected[0]), rel=1e-5)
        == pytest.approx(float(total.norm()), rel=1e-5)
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_record_that_is_not_finite_adds_exactly_nothing(toy, latents, key, bad):
    data, adaptation = latents(6), toy()
    rest, _ = clipped_sum(adaptation, data, key, [0, 1, 3, 4, 5])
    data.mean[2, 0, 0, 0] = bad
    whole, _ = clipped_sum(adaptation, data, key, range(6))
    assert (whole - rest).norm() < 1e-6 * C
    assert not clipped_sum(adaptation, data, key, [2])[0].any()


def test_an_unusable_image_adds_exactly_nothing(toy, latents, key):
    data = latents(3)
    data.label[1] = -1
    assert not clipped_sum(toy(), data, key, [1], draws=2)[0].any()


@pytest.mark.parametrize("engine", ["one-pass", "reference"])
def test_micro_batches_change_neither_the_sum_nor_the_noise(plan_for, toy, latents, key, engine):
    plan, data = plan_for(20, 10, steps=4, draws=2, sigma=0.5), latents(20)
    whole = weights(run(plan, toy(), data, key, micro_batch=100)[0])
    for size in (1, 2, 3, 7):
        other = weights(run(plan, toy(), data, key, micro_batch=size, engine=engine)[0])
        assert torch.allclose(other, whole, rtol=1e-4, atol=1e-5)


def test_the_noise_has_the_declared_variance(plan_for, toy, latents, key):
    """Zero gradients: (sigma C / B)^2 per coordinate, in the loop's own units of C; chi-square,
    two-sided, 1e-6.

    With 306,048 numbers noise of 99 % is found with probability 99.9 %.
    """
    sigma, batch = 1.7, 5
    adaptation = toy(scale=0.0, width=3000)
    plan = plan_for(12, batch, steps=6, sigma=sigma, clip_norm=C, trainable=51_008)
    recorder = Recorder(adaptation.trainable)
    run(plan, adaptation, latents(12), key, optimizer=recorder)
    # the update times C is on the scale of the mean gradient, and noise is made for C (1 + rho)
    z = torch.stack(recorder.seen).double() * batch / sigma * C / plan.sensitivity
    n = z.numel()
    assert n >= 305_862
    assert 5e-7 < stats.chi2.cdf(float(z.square().sum()), n) < 1 - 5e-7
    assert abs(float(z.mean())) * n**0.5 < 5
    for a, b in ((0, 1), (0, 5), (2, 3)):  # steps are independent
        assert abs(float(torch.corrcoef(z[[a, b]])[0, 1])) * z.shape[1] ** 0.5 < 5
    count = sum(p.numel() for p in list(adaptation.trainable.values())[:1])
    first, other = z[0, :count], z[0, -count:]  # and so are the tensors
    assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) * count**0.5 < 5


def test_the_divisor_is_the_expected_batch_not_the_drawn_one(
    plan_for, toy, latents, key, pre_noise, monkeypatch
):
    """Nor anything else that is not public: the number of usable images, or whole units of it."""
    plan, data, spoilt = plan_for(12, 6.5, steps=1, clip_norm=C), latents(12), latents(12)
    spoilt.label[2:] = -1
    for held, drawn in ((data, [0]), (data, range(10)), (spoilt, [0, 1, 2, 3])):
        monkeypatch.setattr(loop, "poisson", lambda *a, drawn=drawn: np.array(drawn))
        adaptation = toy()
        recorder = Recorder(adaptation.trainable)
        run(plan, adaptation, held, key, optimizer=recorder)
        assert torch.allclose(
            recorder.seen[0].double() * 6.5 * C, (pre_noise[-1] + 1).double() * plan.rounding.step
        )


@pytest.mark.parametrize("kind", ["usual", "empty", "not finite", "no gradient", "copies"])
def test_every_step_is_drawn_noised_and_counted_once_whatever_the_data_are(
    plan_for, toy, latents, key, monkeypatch, kind
):
    """The same trace for all data: nothing that a record holds adds, drops or repeats a step, or
    sets its noise.
    """
    plan, data, trace = plan_for(30, 9, steps=6, draws=2, sigma=1.7, clip_norm=C), latents(30), []
    adaptation = toy(scale=0.0 if kind == "no gradient" else 1.0)
    if kind == "not finite":
        data.mean[:] = np.nan
    if kind == "copies":
        data.mean[:], data.label[:] = data.mean[0], 1
    poisson, noise, batch = loop.poisson, loop.add_integer_noise, loop.UnitBatch

    def draw(key, step, attempt, n, q):
        trace.append(("drawn", step, attempt, n, q))
        return np.empty(0, np.int64) if kind == "empty" else poisson(key, step, attempt, n, q)

    def gather(data, units, key, step, attempt, draws, *rest):
        trace.append(("gathered", units.tolist(), step, attempt, draws))
        return batch(data, units, key, step, attempt, draws, *rest)

    def add(sums, key, step, attempt, *, multiplier, bound):
        trace.append(("noised", step, attempt, multiplier, bound))
        return noise(sums, key, step, attempt, multiplier=multiplier, bound=bound)

    class Traced(Recorder):
        def step(self):
            trace.append(("updated",))
            super().step()

    for name, spy in (("poisson", draw), ("add_integer_noise", add), ("UnitBatch", gather)):
        monkeypatch.setattr(loop, name, spy)
    _, finished = run(
        plan, adaptation, data, key, optimizer=Traced(adaptation.trainable),
        on_step=lambda p, s: trace.append(("told", p.step)) or True,
    )  # fmt: skip
    expected = []
    for step in range(6):
        units = [] if kind == "empty" else poisson(key, step, 0, 30, 0.3).tolist()
        expected += [("drawn", step, 0, 30, 0.3), ("gathered", units, step, 0, 2)]
        expected += [
            ("noised", step, 0, 1.7, plan.rounding.bound),
            ("updated",),
            ("told", step + 1),
        ]
    assert finished and trace == expected


def test_an_empty_draw_is_a_step_like_any_other(plan_for, toy, latents, key, monkeypatch):
    monkeypatch.setattr(loop, "poisson", lambda *a: np.empty(0, np.int64))
    called = []
    adaptation = toy()
    before = {n: p.detach().clone() for n, p in adaptation.trainable.items()}
    state, finished = run(
        plan_for(12, 3),
        adaptation,
        latents(12),
        key,
        on_step=lambda p, s: called.append(p.step) or True,
    )
    assert finished and called == [1, 2, 3] and state.step == 3
    assert all(
        not torch.equal(before[n], p) and torch.isfinite(p).all()
        for n, p in adaptation.trainable.items()
    )


def test_all_records_bad_is_a_step_like_any_other(plan_for, toy, latents, key):
    data = latents(12)
    data.mean[:] = np.nan
    state, finished = run(plan_for(12, 6), toy(), data, key)
    assert finished and torch.isfinite(weights(state)).all()


def test_nothing_depends_on_global_generators_and_none_is_touched(plan_for, toy, latents, key):
    plan, data = plan_for(20, 8, steps=2, draws=2), latents(20)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state()
        found.append(weights(run(plan, toy(), data, key)[0]))
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*found)


def test_another_attempt_or_key_draws_anew(plan_for, toy, latents, key):
    from sfumato.privacy.random.keys import RunKey

    plan, data = plan_for(20, 8, steps=2), latents(20)
    first = weights(run(plan, toy(), data, key)[0])
    assert torch.equal(first, weights(run(plan, toy(), data, key)[0]))
    assert not torch.allclose(first, weights(run(plan, toy(), data, key, attempt=1)[0]))
    assert not torch.allclose(first, weights(run(plan, toy(), data, RunKey(bytes(32)))[0]))


def test_it_stops_at_a_step_boundary_when_asked(plan_for, toy, latents, key):
    state, finished = run(
        plan_for(12, 4, steps=5), toy(), latents(12), key, on_step=lambda p, s: p.step < 2
    )
    assert not finished and state.step == 2
    state, finished = run(
        plan_for(12, 4, steps=2), toy(), latents(12), key, on_step=lambda p, s: p.step < 2
    )
    assert finished


def test_rates_follow_logical_steps(plan_for, toy, latents, key):
    recipe = Recipe(learning_rate=1.0, warmup_steps=2, decay_from=0.5, ema_decay=0.9)
    adaptation = toy()
    recorder = Recorder(adaptation.trainable)
    run(
        plan_for(12, 12, steps=4),
        adaptation,
        latents(12),
        key,
        optimizer=recorder,
        recipe=recipe,
        micro_batch=1,
    )
    assert recorder.rates == [0.5, 1.0, 1.0, 0.5]


def test_the_average_forgets_the_start(toy):
    adaptation = toy()
    state = State(adaptation.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
    for value in (1.0, 3.0):
        with torch.no_grad():
            for p in adaptation.trainable.values():
                p.fill_(value)
        state.step += 1
        start = next(iter(state.average.values())).flatten()[0].item()
        state.update_average(0.6)
        end = next(iter(state.average.values())).flatten()[0].item()
        decay = min(0.6, state.step / (state.step + 1))
        assert end == pytest.approx(decay * start + (1 - decay) * value)
    state.use_average()
    assert all(torch.equal(p.detach(), state.average[n]) for n, p in state.trainable.items())


def test_a_plan_without_a_grid_or_for_fewer_numbers_does_not_train(plan_for, toy, latents, key):
    with pytest.raises(
        SfumatoError, match="before sums were made of integers.*adapt into a new folder"
    ):
        run(replace(plan_for(12, 4), rounding=None), toy(), latents(12), key)
    with pytest.raises(SfumatoError, match="more numbers would train"):
        run(plan_for(12, 4, trainable=100), toy(), latents(12), key)


def test_what_the_optimiser_gets_are_whole_numbers_of_the_grid(plan_for, toy, latents, key):
    """So the low bits of a step say nothing: each released number is one that the noise alone could
    have made.
    """
    plan, adaptation = plan_for(12, 8, steps=2, sigma=1.0, clip_norm=C), toy()
    recorder = Recorder(adaptation.trainable)
    run(plan, adaptation, latents(12), key, optimizer=recorder)
    units = torch.stack(recorder.seen).double() * (8 * C) / plan.rounding.step
    assert float((units - units.round()).abs().max()) <= float(units.abs().max()) * 2.0**-24
    assert torch.equal(
        (units.round() * plan.rounding.step / (8 * C)).float(), torch.stack(recorder.seen)
    )


def test_a_tensor_that_does_not_move_ends_the_run(plan_for, toy, latents, key):
    with pytest.raises(SfumatoError, match="did not move"):
        run(
            plan_for(12, 4),
            toy(),
            latents(12),
            key,
            recipe=Recipe(learning_rate=0.0, ema_decay=0.9),
        )


def test_progress_carries_no_private_figure(plan_for, toy, latents, key):
    names = []
    run(
        plan_for(12, 4),
        toy(),
        latents(12),
        key,
        on_step=lambda p, s: names.append(set(vars(p))) or True,
    )
    assert names[0] == {"step", "steps", "learning_rate", "rate", "remaining"}


def test_a_callback_gets_public_numbers_and_noised_tensors_and_nothing_else(
    plan_for, toy, latents, key
):
    given = []
    run(
        plan_for(12, 4),
        toy(),
        latents(12),
        key,
        on_step=lambda *all, **more: given.append((all, more)) or True,
    )
    for (progress, state, *others), more in given:
        assert not others and not more
        assert all(isinstance(value, (int, float)) for value in vars(progress).values())
        assert set(vars(state)) == {"trainable", "step", "average", "start", "optimizer", "shares"}
