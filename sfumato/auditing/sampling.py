"""B, B2 and B3: who is in a step.

For the sampler alone, and for the units whose losses the real loop asks for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from ..bases import around
from ..methods.adaptation import Adaptation
from ..options import Performance
from ..privacy.random.keys import RunKey
from ..privacy.random.sampling import poisson
from ..training import Batch, LatentData, open_engine
from .finding import Finding, Notes
from .models import ALPHAS
from .statistics import chi_square_p, normal_p, rate_seen
from .subject import Subject, dummy_plan, key_of
from .watch import watch

LAGS = (1, 2, 3, 5, 10, 20)
LATENTS = ("mean", "std", "latent_noise", "noise")  # of a batch
DIGITS = 1024  # half precision counts so far exactly


def drawn_by_sampler(key: RunKey, units: int, rate: float, steps: int) -> np.ndarray:
    """How often each unit is in each step, uint8 [steps, units], by `privacy.sampling.poisson`."""
    found = np.zeros((steps, units), np.uint8)
    for step in range(steps):
        np.add.at(found[step], poisson(key, step, 0, units, rate), 1)
    return found


def drawn_by_loop(
    key: RunKey, units: int, rate: float, steps: int, *, attempt: int = 0, content=None
) -> np.ndarray:
    """The same, by what `training.train` shows to the losses: uint8 [steps, units].

    Every latent carries a number. content: the number that each unit's latent carries (default: its
    own); units of equal content are counted at the first of them.
    """
    content = np.arange(units) if content is None else np.asarray(content)
    weight, now = nn.Linear(1, 1, bias=False), [0]
    base = around(weight, ALPHAS, (1, 1, 2))
    model, found = nn.ModuleDict({base.prefix: weight}), np.zeros((steps, units), np.uint8)

    def losses(batch: Batch) -> torch.Tensor:
        high, low = (
            batch.mean.flatten(2)[:, 0, place].numpy().astype(np.int64) for place in (0, 1)
        )
        np.add.at(found[now[0]], high * DIGITS + low, 1)
        return weight(torch.ones(batch.label.numel(), 1)).square().flatten()

    parts = tuple(model.named_parameters())
    adaptation = Adaptation(
        base,
        model,
        dict(parts),
        lambda folder: None,
        ("weight",),
        row_losses=losses,
        exact_losses=losses,
    )
    plan = dummy_plan(n_units=units, expected_batch_size=rate * units, steps=steps)
    subject = Subject(
        "counting", plan, adaptation, (1, 1, 2), performance=Performance(micro_batch=64)
    )
    mean = (
        np.stack([content // DIGITS, content % DIGITS], 1)
        .reshape(units, 1, 1, 2)
        .astype(np.float16)
    )
    data = LatentData(
        mean, np.zeros_like(mean), np.zeros(units, np.int64), np.arange(units), np.arange(units + 1)
    )
    # The engine looks once at losses that it does not know, apart from any step: here first.
    blank: dict[str, Any] = {n: torch.zeros(3, plan.noise_draws, 1, 1, 2) for n in LATENTS}
    blank |= {n: torch.zeros(3, plan.noise_draws, dtype=torch.int64) for n in ("label", "time")}
    first = Batch(
        **blank,
        drop=torch.zeros(3, plan.noise_draws, dtype=torch.bool),
        weight=torch.ones(3, plan.noise_draws),
    )
    with open_engine(adaptation, None, None) as engine:
        engine.clipped_sum(losses, first, draws=plan.noise_draws, clip=torch.ones_like)
    found[:] = 0
    watch(
        subject,
        data,
        key,
        steps=steps,
        attempt=attempt,
        on_optimiser=lambda: now.__setitem__(0, now[0] + 1),
    )
    return found


def rate(found: np.ndarray, declared: float, what: str, alpha: float) -> Finding:
    """B: inclusions are Binomial(n T, q), two-sided."""
    notes = Notes(numbers=found.size)
    total, trials = int(found.sum()), found.size
    if declared >= 1:
        notes.expect(
            int(found.min()) == 1 == int(found.max()), "at rate 1 a unit was not drawn once"
        )
        return notes.finding("B", what, sees="one unit left out")
    z = (total - trials * declared) / np.sqrt(trials * declared * (1 - declared))
    notes.expect(
        normal_p(z) >= alpha / 2,
        f"units are drawn at {total / trials / declared:.4f} times the rate",
    )
    notes.expect(int(found.max(initial=0)) <= 1, "a unit is in a step more than once")
    # single units: none is drawn at a rate of its own
    each = (found.sum(0) - len(found) * declared) / np.sqrt(len(found) * declared * (1 - declared))
    notes.expect(
        normal_p(float(np.abs(each).max())) >= alpha / 2 / found.shape[1],
        "one unit is drawn at a rate of its own",
    )
    sees = f"rate {100 * rate_seen(trials, declared, alpha / 2):.2f} % off"
    return notes.finding("B", what, sees=sees, alpha=alpha)


def sizes(found: np.ndarray, declared: float, what: str, alpha: float) -> Finding:
    """B2: batch sizes have the binomial's variance and extremes.

    The sum over steps of (b - n q)^2 / (n q (1 - q)) is chi-square (with the binomial's own
    kurtosis), and the largest and smallest size are those of T draws: fixed sizes give 0, one seed
    for two ranks twice too much, a cap no large batch.
    """
    steps, units = found.shape
    notes = Notes(numbers=steps)
    b, spread = found.sum(1, dtype=np.int64), units * declared * (1 - declared)
    total = float(np.sum((b - units * declared) ** 2) / spread)
    degrees = steps / (1 + (1 - 6 * declared * (1 - declared)) / spread / 2)
    notes.expect(
        chi_square_p(total * degrees / steps, degrees) >= alpha / 2,
        f"batch sizes vary {total / steps:.3f} times as much as Poisson draws do",
    )
    law, share = stats.binom(units, declared), alpha / 8
    most, least = int(b.max()), int(b.min())
    notes.expect(
        steps * law.sf(most - 1) >= share, f"a batch of {most}, which is too large to be chance"
    )
    notes.expect(
        steps * law.cdf(least) >= share, f"a batch of {least}, which is too small to be chance"
    )
    notes.expect(
        steps * law.logcdf(most) >= np.log(share), "no large batch was ever drawn: sizes are capped"
    )
    notes.expect(
        steps * law.logsf(least - 1) >= np.log(share),
        "no small batch was ever drawn: some are drawn again",
    )
    seen = float(np.sqrt(stats.chi2.ppf(alpha / 4, degrees) / degrees))
    return notes.finding(
        "B2",
        what,
        sees=f"sizes that vary less than {100 * seen:.0f} % of what they should",
        alpha=alpha,
    )


def dependence(
    found: np.ndarray, declared: float, what: str, alpha: float, seed: int = 0
) -> Finding:
    """B3: products of deviations, over lags and pairs of units, add up as for independent draws."""
    notes = Notes()
    x = (np.minimum(found, 1).astype(np.float64) - declared) / np.sqrt(declared * (1 - declared))
    steps, units = x.shape
    around = [round(1 / declared), round(1 / declared) - 1] if declared < 0.9 else []
    lags = sorted({lag for lag in (*LAGS, *around) if 0 < lag < steps})
    tests = {f"a unit's draws {lag} steps apart": (x[lag:] * x[:-lag]).ravel() for lag in lags}
    order = np.random.default_rng(seed).permutation(units)
    tests |= {
        "neighbouring slots": (x[:, 1:] * x[:, :-1]).ravel(),
        "slots half the data apart": (
            (x[:, : units // 2] * x[:, units // 2 : 2 * (units // 2)]).ravel()
        ),
        "random pairs of slots": (
            (x[:, order[: units // 2]] * x[:, order[units // 2 : 2 * (units // 2)]]).ravel()
        ),
    }
    for name, products in tests.items():
        notes.numbers += len(products)
        z = float(products.sum() / np.sqrt(len(products)))
        notes.expect(normal_p(z) >= alpha / len(tests), f"{name} are dependent (z = {z:.1f})")
    return notes.finding(
        "B3", what, sees="shuffled epochs, pairs drawn together, streaks", alpha=alpha
    )


def duplicates(key: RunKey, units: int, declared: float, steps: int, alpha: float) -> Finding:
    """B3 on duplicates: of two units with the same image and label each is drawn by itself."""
    notes = Notes(numbers=units // 2 * steps)
    twin = np.arange(units) // 2 * 2
    both = drawn_by_loop(key, units, declared, steps, content=twin)[:, ::2]
    # independent: the sum of two draws has variance 2 q (1 - q); drawn together it would be twice
    # that
    z = ((both - 2 * declared) ** 2 / (2 * declared * (1 - declared)) - 1).sum()
    spread = (1 - 6 * declared * (1 - declared)) / (2 * declared * (1 - declared)) + 2
    z = float(z / np.sqrt(both.size * spread))
    notes.expect(normal_p(z) >= alpha, f"duplicates are not drawn independently (z = {z:.1f})")
    return notes.finding(
        "B3", "loop, duplicates", sees="duplicates drawn together or apart", alpha=alpha
    )


def keyed(seed: int, units: int = 200, steps: int = 6) -> Finding:
    """A2 of the draws: who is in a step follows from key, step and attempt.

    Not from any public seed.
    """
    notes = Notes(numbers=4 * units * steps)
    first, second = key_of(seed, "draws one"), key_of(seed, "draws two")

    def drawn(key: RunKey, public_seed: int = 0, attempt: int = 0) -> np.ndarray:
        torch.manual_seed(public_seed)
        np.random.seed(public_seed)
        return drawn_by_loop(key, units, 0.5, steps, attempt=attempt)

    with torch.random.fork_rng():
        held = np.random.get_state()
        try:
            base = drawn(first)
            again, seeded = drawn(first), drawn(first, public_seed=1)
            others = {"another run key": drawn(second), "another attempt": drawn(first, attempt=1)}
        finally:
            np.random.set_state(held)
    notes.expect(bool((base == again).all()), "the same address draws other units")
    notes.expect(bool((base == seeded).all()), "a public seed changes who is drawn")
    for what, other in others.items():
        share = float((base == other).mean())
        notes.expect(
            abs(share - 0.5) < 6 * 0.5 / np.sqrt(base.size),
            f"{what} draws the same units ({100 * share:.0f} % agree)",
        )
    steps_agree = [float((base[0] == base[i]).mean()) for i in range(1, steps)]
    notes.expect(max(steps_agree) < 0.5 + 6 * 0.5 / np.sqrt(units), "two steps draw the same units")
    return notes.finding("A2", "loop, who is drawn", sees="draws that a public seed decides")
