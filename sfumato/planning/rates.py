"""The learning rate of a plan that names none: the method's own, and less where noise rules."""

from __future__ import annotations

from dataclasses import replace

from ..methods import METHODS
from ..options import parse
from ..privacy.plan import Plan
from .forecast import noise_over_signal


def with_default_rate(plan: Plan) -> Plan:
    """A plan at its method's own learning rate with the one that suits its noise.

    Adam moves every number by about the rate in a step, however little of the gradient is signal.
    So where the noise of the whole run exceeds what the method bears at its own rate, it has half
    of it, and where it exceeds what that bears, as much less. From the plan alone, to two digits,
    so that all processes decide alike.
    """
    bears = METHODS[plan.method].bears
    if bears is None or (noise := noise_over_signal(plan)) <= bears[0]:
        return plan
    share = 0.5 * min(1.0, bears[1] / noise)
    return replace(plan, learning_rate=float(f"{plan.learning_rate * share:.2g}"))


def rate_without_noise(plan: Plan) -> float:
    """The rate of the same training without noise: the method's own where noise lowered it."""
    own = METHODS[plan.method].learning_rate
    lowered = with_default_rate(replace(plan, learning_rate=own)).learning_rate
    return own if plan.learning_rate == lowered else plan.learning_rate


def remarks(plan: Plan) -> list[str]:
    """Why the rate is lower than the method's own, unless somebody asked for another."""
    method, own = METHODS[plan.method], rate_without_noise(plan)
    if own == plan.learning_rate or method.bears is None:
        return []
    return [
        f"the learning rate is {plan.learning_rate:g} in place of {own:g}: over all steps the noise"
        f" is {parse.rounded(noise_over_signal(plan))} times the largest possible signal, and from"
        f" {method.bears[0]:g} on steps of that size can spoil --method {plan.method}"
        " (--learning-rate sets another)"
    ]
