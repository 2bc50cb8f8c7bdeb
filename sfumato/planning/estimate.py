"""What a run will take on this machine: measured on made-up pictures before anything is charged."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace

import psutil

from ..compute.allocator import keep_memory
from ..compute.memory import peak_bytes
from ..errors import SfumatoError
from ..gradients import Engine, fitting_records
from ..privacy.clipping import flat
from ..runs.inversion import expected_seconds, fit_rows
from ..runs.prepared import Prepared
from ..training.dummy import made_up_batch

# Rows in one pass beyond which a CPU gains a tenth at most, and the demo would not stay under 3 GB.
MOST_ROWS = 256


@dataclass(frozen=True)
class Estimate:
    """What a run will take on this machine: measured on made-up pictures, then multiplied. Bytes,
    seconds.

    `noise_norm` is the expected norm of the noise on the mean gradient, `signal_bound` the most the
    signal can have.
    """

    seconds: float
    peak_bytes: int
    noise_norm: float
    signal_bound: float


def fit_to_memory(prepared: Prepared) -> Prepared:
    """The same with the micro-batch decided by the memory budget, and the engine's strategies noted
    in the options.

    Both follow from the model and public settings. A micro-batch that was asked for stays; the
    reference engine takes one unit at a time. SfumatoError for a layer that the engine has no rule
    for.
    """
    plan, adaptation, performance = prepared.plan, prepared.adaptation, prepared.performance
    if adaptation.inversion is not None:
        return fit_rows(prepared)
    units = performance.micro_batch
    with _engine(prepared) as engine:
        if performance.engine != "one-pass":
            units = units or 1
        elif units is None:
            # A Poisson draw seldom exceeds its mean by a quarter; when it does, it is cut up.
            most = max(
                1, min(MOST_ROWS // plan.noise_draws, round(1.25 * plan.expected_batch_size))
            )
            units = fitting_records(
                engine,
                adaptation.row_losses,
                lambda records: made_up_batch(prepared, records),
                plan.noise_draws,
                performance.memory_budget,
                most,
                peak_bytes,
            )
        else:
            engine.clipped_sum(
                adaptation.row_losses,
                made_up_batch(prepared, 1),
                draws=plan.noise_draws,
                clip=flat(1.0).factors,
            )
        strategies = dict(sorted(Counter(engine.strategies.values()).items()))
    performance = replace(performance, micro_batch=units)
    options = prepared.options | {"performance": asdict(performance), "strategies": strategies}
    return replace(prepared, performance=performance, options=options)


def _engine(prepared: Prepared) -> Engine:
    try:
        return Engine(prepared.adaptation.model, prepared.adaptation.trainable)
    except ValueError as error:
        raise SfumatoError(f"this base cannot be adapted by this method: {error}") from error


def estimate(prepared: Prepared) -> Estimate:
    """Time one or two micro-batches of made-up pictures and multiply by the plan's steps."""
    keep_memory()
    prepared = fit_to_memory(prepared)
    plan = prepared.plan
    if prepared.adaptation.inversion is not None:
        return _of_inversion(prepared)
    units = min(prepared.performance.micro_batch, max(1, round(plan.expected_batch_size)))
    batch = made_up_batch(prepared, units)
    process = psutil.Process()
    with _engine(prepared) as engine:
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            engine.clipped_sum(
                prepared.adaptation.row_losses,
                batch,
                draws=plan.noise_draws,
                clip=flat(1.0).factors,
                micro_batch=units,
            )
            seconds.append(time.perf_counter() - started)
    per_unit = min(seconds) / units
    noise = plan.trainable * 25e-9 * 2  # ChaCha normals and Adam, per number
    total = plan.steps * (plan.expected_batch_size * per_unit + noise)
    if plan.probe is not None:
        total += (
            plan.probe.expected_batch_size * plan.probe.noise_draws * per_unit / plan.noise_draws
        )
    copies = 8 * 4 * plan.trainable  # weights, moments, average, sum, noise
    return Estimate(
        seconds=float(total),
        peak_bytes=int(process.memory_info().rss + copies),
        noise_norm=plan.noise_norm_expected(),
        signal_bound=plan.signal_bound,
    )


def _of_inversion(prepared: Prepared) -> Estimate:
    """The same for embeddings: noise and bound are those of the mean that is released, all classes
    together.
    """
    plan = prepared.plan
    seconds = expected_seconds(prepared)
    bytes_ = psutil.Process().memory_info().rss
    return Estimate(seconds, int(bytes_), plan.noise_norm_expected(), plan.signal_bound)
