"""Bugs to plant into the code that runs, one function each; `monkeypatch` takes them out again."""

from __future__ import annotations

import numpy as np
import torch

from sfumato.auditing import sampling
from sfumato.gradients import Engine
from sfumato.privacy.clipping import Clip
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.runs import execute
from sfumato.training import loop

integer_noise, poisson, clipped_sum, factors = (
    loop.add_integer_noise,
    loop.poisson,
    Engine.clipped_sum,
    Clip.factors,
)


def add_noise(sums, key, step, attempt, sd):
    """The loop's noise, by its standard deviation in grid units."""
    return integer_noise(sums, key, step, attempt, multiplier=sd, bound=1)


def put_noise(patch, noisy):
    """`noisy(sums, key, step, attempt, sd)` in the place of the loop's noise."""

    def whole(sums, key, step, attempt, *, multiplier, bound):
        made = noisy(sums, key, step, attempt, multiplier * bound)
        return {
            n: v if v.dtype == torch.int64 else v.double().round().long() for n, v in made.items()
        }

    patch.setattr(loop, "add_integer_noise", whole)


def noise_times(factor):
    def plant(patch):
        put_noise(patch, lambda s, k, t, a, sd: add_noise(s, k, t, a, sd * factor))

    return plant


def no_noise(patch):
    put_noise(patch, lambda sums, *rest: {n: v.clone() for n, v in sums.items()})


def changed_noise(change):
    """`change`(noise alone, sd) instead of the noise."""

    def plant(patch):
        def noisy(sums, key, step, attempt, sd):
            zeros = {n: torch.zeros_like(v) for n, v in sums.items()}
            noise = add_noise(zeros, key, step, attempt, sd)
            return {n: v + change(noise[n].double(), sd) for n, v in sums.items()}

        put_noise(patch, noisy)

    return plant


def same_noise_every_step(patch):
    put_noise(patch, lambda s, k, t, a, sd: add_noise(s, k, 0, a, sd))


def same_noise_every_attempt(patch):
    put_noise(patch, lambda s, k, t, a, sd: add_noise(s, k, t, 0, sd))


def same_noise_every_tensor(patch):
    def noisy(sums, key, step, attempt, sd):
        return {n: add_noise({"": v}, key, step, attempt, sd)[""] for n, v in sums.items()}

    put_noise(patch, noisy)


def noise_of_a_public_seed(patch):
    def noisy(sums, key, step, attempt, sd):
        g = torch.Generator().manual_seed(step + 1000 * attempt)
        return {n: v + sd * torch.randn(v.shape, generator=g) for n, v in sums.items()}

    put_noise(patch, noisy)


def noise_of_the_global_generator(patch):
    put_noise(
        patch, lambda s, k, t, a, sd: {n: v + sd * torch.randn(v.shape) for n, v in s.items()}
    )


def no_noise_on_an_empty_draw(patch):
    def noisy(sums, key, step, attempt, sd):
        if any(bool(v.any()) for v in sums.values()):
            return add_noise(sums, key, step, attempt, sd)
        return {n: v.clone() for n, v in sums.items()}

    put_noise(patch, noisy)


def clip_times(factor):
    def plant(patch):
        patch.setattr(Clip, "factors", lambda self, norms: factors(self, norms) * factor)

    return plant


def no_clip(patch):
    patch.setattr(Clip, "factors", lambda self, norms: torch.isfinite(norms).to(norms.dtype))


def engine(change):
    """`change`(sums, norms, batch, draws) -> sums, after the engine."""

    def plant(patch):
        def broken(self, row_losses, batch, *, draws=1, clip, micro_batch=None, rounding=None):
            ask = {"draws": draws, "clip": clip, "micro_batch": micro_batch, "rounding": rounding}
            sums, norms = clipped_sum(self, row_losses, batch, **ask)
            made = change(sums, norms, batch, draws)
            return (
                made
                if rounding is None
                else {n: v.double().round().long() for n, v in made.items()}
            ), norms

        patch.setattr(Engine, "clipped_sum", broken)

    return plant


copies_clipped_as_records = engine(
    lambda sums, norms, batch, draws: {n: v * draws for n, v in sums.items()}
)
divided_by_the_drawn_size = engine(
    lambda sums, norms, batch, draws: {n: v * 4.5 / max(len(batch), 1) for n, v in sums.items()}
)
rounded_to_float32 = engine(
    lambda sums, norms, batch, draws: {n: v.float() for n, v in sums.items()}
)
one_broken_record_erases_all = engine(
    lambda sums, norms, batch, draws: {
        n: v * float(torch.isfinite(norms).all()) for n, v in sums.items()
    }
)


def draws(change):
    """`change`(units, key, step, attempt, n, q) -> units, instead of the sampler in the loop."""

    def plant(patch):
        patch.setattr(
            loop, "poisson", lambda k, t, a, n, q: change(poisson(k, t, a, n, q), k, t, a, n, q)
        )

    return plant


def rate_times(factor):
    return draws(lambda units, k, t, a, n, q: poisson(k, t, a, n, min(q * factor, 1.0)))


def _first_of(n, q, seed):
    return np.sort(np.random.default_rng(seed).permutation(n)[: round(n * q)])


def _shuffled(units, k, t, a, n, q):
    size = round(n * q)
    epoch, place = divmod(t, n // size)
    return np.sort(np.random.default_rng(epoch).permutation(n)[place * size : (place + 1) * size])


fixed_size = draws(lambda units, k, t, a, n, q: _first_of(n, q, t))
shuffled = draws(_shuffled)
capped = draws(lambda units, k, t, a, n, q: units[: round(n * q)])
padded = draws(lambda units, k, t, a, n, q: np.concatenate([units, units[-1:]]))
redrawn_when_empty = draws(
    lambda units, k, t, a, n, q: units if len(units) else np.arange(n)[:1]
)  # as if drawn again until somebody is in
pairs_together = draws(
    lambda units, k, t, a, n, q: np.flatnonzero(np.isin(np.arange(n) // 2 * 2, units))
)
seeded_draws = draws(
    lambda units, k, t, a, n, q: np.flatnonzero(np.random.default_rng(t).random(n) < q)
)


def touched_buffer(patch):
    init = Engine.__init__

    def keep(self, model, *args, **more):
        init(self, model, *args, **more)
        self.buffers = list(model.buffers())

    patch.setattr(Engine, "__init__", keep)

    def broken(self, row_losses, batch, **more):
        for buffer in self.buffers:
            buffer += 1e-3
        return clipped_sum(self, row_losses, batch, **more)

    patch.setattr(Engine, "clipped_sum", broken)


def histogram_noise_times(factor):
    real = execute.noisy_histogram

    def plant(patch):
        patch.setattr(
            execute,
            "noisy_histogram",
            lambda c, sigma, key, **more: real(c, sigma * factor, key, **more),
        )

    return plant


def histogram_forgets_the_unit(patch):
    real = execute.noisy_histogram
    patch.setattr(execute, "noisy_histogram", lambda c, sigma, key, **more: real(c, sigma, key))


def histogram_counts_all(patch):
    patch.setattr(
        execute,
        "bounded_counts",
        lambda r, p: np.bincount(r.labels[r.usable & (r.labels >= 0)], minlength=len(p.classes)),
    )


def probe_noise_of_the_norm(patch):
    """Noise sigma C_s where the sensitivity is C_s^2."""

    def stddev(self):
        return max(
            1, round(self.noise_multiplier * (self.clip_norm or self.sensitivity) / self.grid)
        )

    patch.setattr(Probe, "noise_stddev", property(stddev))


def probe_without_a_bound(patch):
    def scores(self, squares):
        return (torch.nan_to_num(squares, 0, 0, 0).clamp(max=1e9) / self.grid).to(torch.int64)

    patch.setattr(Probe, "unit_scores", scores)


def redrawn_when_large(patch):
    """In the sampler itself: a batch of more than twice the mean is drawn again."""
    real = sampling.poisson

    def again(key, step, attempt, n, q):
        units = real(key, step, attempt, n, q)
        return units if len(units) <= 2 * n * q else real(key, step, attempt + 1000, n, q)

    patch.setattr(sampling, "poisson", again)


def redrawn_when_nobody(patch):
    real = sampling.poisson

    def again(key, step, attempt, n, q):
        units = real(key, step, attempt, n, q)
        return units if len(units) else real(key, step, attempt + 1000, n, q)

    patch.setattr(sampling, "poisson", again)
