"""What a run will take on this machine: measured on dummy images before anything is charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..compute.allocator import keep_memory
from ..compute.threads import use_threads
from ..methods import Prepared
from ..methods.formats import choose_formats
from ..methods.shared import share_base


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


def fit_to_machine(
    prepared: Prepared[Any], compared: bool = False, runs: bool = False
) -> Prepared[Any]:
    """The same with number formats decided by timing and the microbatch by the memory budget.

    Both on dummy data, once: what the options hold already stays. SfumatoError for a layer that the
    engine has no rule for.

    Args:
        prepared: Plan, options and adaptation.
        compared: Time both formats even where one was asked for.
        runs: It will run: ranks share the base from here on, if that was asked for. One of them
            times formats, with a whole base.
    """
    keep_memory()
    use_threads(prepared.performance.threads)
    prepared = choose_formats(prepared, compared)
    return prepared.method.fit_to_memory(share_base(prepared) if runs else prepared)


def estimate(prepared: Prepared[Any], fixed: float = 0.0) -> Estimate:
    """Time and memory of the method on this machine, beside noise and signal of the plan.

    fixed: seconds of the run beside those of its method (`timing.fixed_seconds`).
    """
    prepared = fit_to_machine(prepared)
    work, plan = prepared.method.estimate(prepared), prepared.plan
    noise, signal = plan.noise_norm_expected(), plan.signal_bound
    return Estimate(work.seconds + fixed, work.peak_bytes, noise, signal)
