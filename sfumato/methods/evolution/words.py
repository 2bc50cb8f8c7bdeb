"""An evolution's plan in words."""

from __future__ import annotations

from typing import Any

from ...options import parse
from ...privacy.plan import Plan


def mechanism_rows(plan: Plan) -> list[tuple[str, str]]:
    """The rounds of votes in words."""
    own = plan.voting
    assert own is not None  # an evolution's plan has one
    reserve = f" and {plan.retry_steps:,} in reserve for a new attempt"
    histogram = plan.histogram_noise_multiplier
    few = "nearest candidate" if own.votes == 1 else f"{own.votes} nearest candidates"
    return [
        (
            "votes",
            f"{plan.steps:,} rounds of all units"
            + (reserve if plan.retry_steps else "")
            + "; Gaussian, exact integer noise",
        ),
        (
            "a unit adds",
            f"the {few} of each image's class, norm 1 in all, whatever it owns",
        ),
        ("noise multiplier sigma", f"{plan.noise_multiplier:.4f} votes on each candidate"),
        ("compared by", f"{own.features}, a public feature space"),
        (
            "class histogram",
            "none: class shares are uniform or declared"
            if histogram is None
            else f"Gaussian, noise multiplier {histogram:g}",
        ),
    ]


def work_rows(plan: Plan, estimate: Any, time: str) -> list[tuple[str, str]]:
    """Candidates, time, memory and votes beside noise, for the table of a plan."""
    own = plan.voting
    assert own is not None
    mean, noise = plan.n_units / own.candidates, plan.noise_multiplier
    return [
        ("method", f"{plan.method} on base {plan.base}: nothing trains"),
        ("candidates", f"{own.candidates:,} a round, {own.of_class:,} for each class"),
        ("time here", time),
        ("memory here", f"about {estimate.peak_bytes / 2**30:.1f} GB"),
        ("votes a candidate", f"{parse.rounded(mean)} on average"),
        ("noise on them", f"{noise:.4g} (signal-to-noise {parse.rounded(mean / noise)})"),
    ]
