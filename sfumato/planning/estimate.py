"""What a run will take on this machine: measured on dummy images before anything is charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..compute.allocator import keep_memory
from ..methods import Prepared


@dataclass(frozen=True)
class Estimate:
    """Time (seconds) and memory (bytes) of a run on this machine.

    Measured on dummy images, then multiplied. `noise_norm` is the expected norm of the noise on the
    mean gradient, or on the mean that is released, all classes together; `signal_bound` the most
    that the signal can have.
    """

    seconds: float
    peak_bytes: int
    noise_norm: float
    signal_bound: float


def fit_to_memory(prepared: Prepared[Any]) -> Prepared[Any]:
    """The same with the microbatch decided by the memory budget.

    SfumatoError for a layer that the engine has no rule for.
    """
    return prepared.method.fit_to_memory(prepared)


def estimate(prepared: Prepared[Any], fixed: float = 0.0) -> Estimate:
    """Time and memory of the method on this machine, beside noise and signal of the plan.

    fixed: seconds of the run beside those of its method (`timing.fixed_seconds`).
    """
    keep_memory()
    prepared = fit_to_memory(prepared)
    work, plan = prepared.method.estimate(prepared), prepared.plan
    noise, signal = plan.noise_norm_expected(), plan.signal_bound
    return Estimate(work.seconds + fixed, work.peak_bytes, noise, signal)
