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
    So where the noise of the whole run exceeds what the method bears at its own rate, the rate
    falls as much. From the plan alone, to two digits, so that all processes decide alike.
    """
    bears = METHODS[plan.method].bears
    if bears is None or (noise := noise_over_signal(plan)) <= bears:
        return plan
    return replace(plan, learning_rate=float(f"{plan.learning_rate * bears / noise:.2g}"))


def remarks(plan: Plan) -> list[str]:
    """Why the rate is lower than the method's own, unless somebody asked for another."""
    method = METHODS[plan.method]
    own, rate = method.learning_rate, plan.learning_rate
    if rate == own or rate != with_default_rate(replace(plan, learning_rate=own)).learning_rate:
        return []
    return [
        f"the learning rate is {rate:g} in place of {own:g}: over all steps the noise is"
        f" {parse.rounded(noise_over_signal(plan))} times the largest possible signal, and from"
        f" {method.bears:g} on --method {plan.method} is spoilt by steps of that size"
        " (--learning-rate sets another)"
    ]
