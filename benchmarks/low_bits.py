"""What the bits of one noised step tell about one unit: an attacker who knows all else, 10,000
steps of the real loop, sigma 1 and 10.

    python benchmarks/low_bits.py [--trials 10000] [--sigma 1,10] [--out FILE]

Every trial flips a coin, runs one step of `training.train` from a public start on data with or
without the last unit (zero-out, everybody drawn, the unit's gradient clipped), and looks at what
leaves: the noised integers; the gradient that the optimiser gets, in float32 and float16; a
checkpoint's weights and first moments; the average of the weights, which is what is released, in
float32 and float16. The attacker has both sums, so only the noise is secret. It has six statistics
for each output:

  linear      projection on the difference of the two sums: for a Gaussian the best there is
  impossible  numbers that no noise of the output's own float format can have made from either sum
                (Mironov 2012; Haney et al. 2022)
  zeros       trailing zero bits of the exact difference to either noise-free output
  bits        equal lowest 1, 2, 4 bits of mantissa (or integer), beside either noise-free output
  and a logistic regression on all of them ("combined"), fitted on half of the trials and scored on
  the other half.

Bound: with sensitivity bound, no test on one full step is right more often than Phi(1 / (2 sigma)).
`within`: at most 4 standard errors above it. `control` is the float noise of earlier versions
(float32 sum + float32 normals) under the same attacks: it shows that they bite. The noised integers
minus the true sum also get a chi-square over 64 cells of their law, and over their residues modulo
16.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from measure import machine, prepare_process
from rows import append
from scipy import stats

from sfumato.auditing.subject import Subject, dummy_subject, key_of, latents, zeroed
from sfumato.auditing.watch import watch
from sfumato.gradients import Engine
from sfumato.privacy.random.keys import RunKey, Stream
from sfumato.privacy.random.noise import variance_of
from sfumato.training import State, UnitBatch

UNITS, CLIP = 4, 0.5  # B C is a power of two, so the division hides no bit from the attacker
OUTPUTS = (
    "integers",
    "gradient",
    "gradient16",
    "weight",
    "moment",
    "average",
    "average16",
    "control",
    "control16",
)
STATISTICS = ("linear", "impossible", "zeros", "bits1", "bits2", "bits4")


class NoiseOf(RunKey):
    """A run key whose noise comes from another key: the sums stay the same from trial to trial."""

    __slots__ = ("noise",)

    def stream(
        self, purpose: str, step: int, attempt: int, name: str = "", start: int = 0
    ) -> Stream:
        if purpose in ("noise", "ties"):
            return self.noise.stream(purpose, step, attempt, name, start)
        return super().stream(purpose, step, attempt, name, start)


def integer_sums(subject: Subject, data, key: RunKey) -> dict[str, torch.Tensor]:
    """The clipped sum of one step before its noise, int64."""
    plan, adaptation, recipe = subject.plan, subject.adaptation, subject.recipe
    batch = UnitBatch(
        data,
        np.arange(UNITS),
        key,
        0,
        0,
        plan.noise_draws,
        recipe.time_bias,
        recipe.caption_dropout,
        adaptation.base.times,
    )
    with Engine(adaptation.model, adaptation.trainable) as engine:
        how = {
            "draws": plan.noise_draws,
            "clip": plan.clip().factors,
            "micro_batch": subject.performance.micro_batch,
        }
        return engine.clipped_sum(adaptation.row_losses, batch, rounding=plan.rounding, **how)[0]


def flat(tensors: dict[str, torch.Tensor], prefix: str = "") -> np.ndarray:
    return torch.cat([t.flatten() for n, t in tensors.items() if n.startswith(prefix)]).numpy()


def outputs(
    grads: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Everything that leaves a step, from the optimiser's gradients and the state after it."""
    gradient, average = flat(grads), flat(tensors, "average/")
    found = {"gradient": gradient, "average": average}
    found |= {"weight": flat(tensors, "weight/"), "moment": flat(tensors, "exp_avg/")}
    return found | {
        "gradient16": gradient.astype(np.float16),
        "average16": average.astype(np.float16),
    }


def without_noise(subject: Subject, sums: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The outputs of a step whose noise is zero, by the loop's own arithmetic."""
    plan, adaptation = subject.plan, subject.adaptation
    start = {name: p.detach().clone() for name, p in adaptation.trainable.items()}
    state = State(adaptation.trainable, adaptation.learning_rate_factor, subject.recipe)
    scale = plan.rounding.step / (plan.expected_batch_size * plan.clip().sensitivity)
    grads = {name: (value.double() * scale).float() for name, value in sums.items()}
    for name, parameter in adaptation.trainable.items():
        parameter.grad = grads[name].clone()
    state.optimizer.step()
    state.step = 1
    state.update_average(subject.recipe.ema_decay)
    found = outputs(grads, state.tensors())
    with torch.no_grad():
        for name, parameter in adaptation.trainable.items():
            parameter.copy_(start[name])
            parameter.grad = None
    return found | {
        "integers": flat(sums),
        "control": found["gradient"],
        "control16": found["gradient16"],
    }


def impossible(seen: np.ndarray, clean: np.ndarray) -> int:
    """Numbers that clean + (a float of the same format) cannot be."""
    near, made = (seen.astype(np.float64) - clean).astype(seen.dtype), np.zeros(seen.shape, bool)
    for noise in (
        near,
        np.nextafter(near, seen.dtype.type(np.inf)),
        np.nextafter(near, seen.dtype.type(-np.inf)),
    ):
        made |= clean + noise == seen
    return int((~made).sum())


def trailing_zeros(seen: np.ndarray, clean: np.ndarray) -> float:
    """Mean place of the lowest bit of the exact difference."""
    difference = seen.astype(np.float64) - clean.astype(np.float64)
    whole = np.ldexp(np.abs(difference[difference != 0]), 60).astype(np.float64)
    mantissa, exponent = np.frexp(whole)
    bits = np.ldexp(mantissa, 53).astype(np.int64)
    return (
        float(np.mean(exponent - 53 + np.log2((bits & -bits).astype(np.float64))))
        if len(bits)
        else 0.0
    )


def low_bits(value: np.ndarray) -> np.ndarray:
    return value.view({8: np.int64, 4: np.int32, 2: np.int16}[value.itemsize])


def features(
    seen: np.ndarray, clean: tuple[np.ndarray, np.ndarray], direction: np.ndarray
) -> list[float]:
    """The six statistics of one output, given what it is without noise and without or with the
    unit.
    """
    out, inn = clean
    row = [float((seen - (inn.astype(np.float64) + out) / 2) @ direction)]
    whole = seen.dtype == np.int64
    row += (
        [0.0, 0.0]
        if whole
        else [
            impossible(seen, out) - impossible(seen, inn),
            trailing_zeros(seen, inn) - trailing_zeros(seen, out),
        ]
    )
    for mask in (1, 3, 15):
        now, without, with_ = (low_bits(v) & mask for v in (seen, out, inn))
        row.append(float((now == with_).sum()) - float((now == without).sum()))
    return row


def accuracies(rows: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Share of right guesses on the second half of the trials, thresholds and weights from the
    first.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    half, found = len(rows) // 2, {}
    for name, columns in [
        *((name, [i]) for i, name in enumerate(STATISTICS)),
        ("combined", range(len(STATISTICS))),
    ]:
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(
            rows[:half, list(columns)], truth[:half]
        )
        found[name] = float((model.predict(rows[half:, list(columns)]) == truth[half:]).mean())
    return found


def measure(sigma: float, trials: int, family: str = "linear", seed: int = 0) -> list[dict]:
    """One row for each output."""
    started, rng = time.monotonic(), np.random.default_rng(seed)
    plan = {
        "n_units": UNITS,
        "expected_batch_size": float(UNITS),
        "noise_multiplier": sigma,
        "clip_norm": CLIP,
    }
    subject = dummy_subject(family, **plan).with_performance(micro_batch=UNITS)
    plan, key = subject.plan, NoiseOf(bytes(range(32)))
    both = latents(subject, UNITS, seed)
    data = zeroed(both, [UNITS - 1]), both
    sums = [integer_sums(subject, d, key) for d in data]
    clean = [without_noise(subject, s) for s in sums]
    direction = (clean[1]["integers"] - clean[0]["integers"]).astype(np.float64)
    scale = plan.rounding.step / (plan.expected_batch_size * plan.clip_norm)
    if math.frexp(scale)[0] != 0.5:
        raise SystemExit("the loop's division would hide low bits from the attacker")
    rows: dict[str, list] = {name: [] for name in OUTPUTS}
    truth, deviation = (
        rng.integers(0, 2, trials),
        math.sqrt(variance_of(sigma, plan.rounding.bound)),
    )
    edges = np.floor(stats.norm.ppf(np.arange(1, 64) / 64) * deviation) + 0.5
    law = np.diff([0.0, *stats.norm.cdf(edges / deviation), 1.0])
    cells, residues = np.zeros(64, np.int64), np.zeros(16, np.int64)
    for trial, present in enumerate(truth):
        key.noise = key_of(seed, f"low bits {sigma} {trial}")
        seen = watch(subject, data[present], key)
        now = outputs(
            {n: (t / (UNITS * CLIP)).float() for n, t in seen.released[0].items()}, seen.state
        )
        now["integers"] = np.rint(now["gradient"].astype(np.float64) / scale).astype(np.int64)
        control = key.noise.stream("unit", 0, 0, "control").normal(len(now["gradient"])) * (
            sigma * plan.sensitivity
        )
        control = (clean[present]["gradient"] * (UNITS * CLIP) + control.astype(np.float32)) / (
            UNITS * CLIP
        )
        now |= {"control": control, "control16": control.astype(np.float16)}
        for name in OUTPUTS:
            rows[name].append(features(now[name], (clean[0][name], clean[1][name]), direction))
        drawn = now["integers"] - clean[present]["integers"]
        cells += np.bincount(np.searchsorted(edges, drawn), minlength=64)
        residues += np.bincount(now["integers"] & 15, minlength=16)
    bound = float(stats.norm.cdf(1 / (2 * sigma)))
    facts = {"sigma": sigma, "trials": trials, "numbers": len(clean[0]["integers"]), "bound": bound}
    facts |= {
        "apart": float(np.linalg.norm(direction)) / plan.rounding.bound,
        "noise_sd_in_grid_units": deviation,
    }
    error = math.sqrt(bound * (1 - bound) / (trials - trials // 2))
    found = []
    for name in OUTPUTS:
        right = accuracies(np.array(rows[name]), truth)
        best = max(right.values())
        row = {
            "output": name,
            **facts,
            "accuracy": right,
            "best": best,
            "within": best <= bound + 4 * error,
        }
        if name == "integers":
            row["chi_square_p"] = float(stats.chisquare(cells, law * cells.sum()).pvalue)
            row["residues_p"] = float(stats.chisquare(residues).pvalue)
        found.append(row | {"seconds": round(time.monotonic() - started, 1)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sigma", default="1,10")
    parser.add_argument(
        "--family", default="linear", help="kind of tiny model: linear, convolution, attention, ..."
    )
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    prepare_process(threads=1)
    for sigma in map(float, args.sigma.split(",")):
        for row in measure(sigma, args.trials, args.family):
            print(json.dumps(row), flush=True)
            if args.out:
                append(args.out, row | {"machine": machine()})


if __name__ == "__main__":
    main()
