"""An inversion's plan in words."""

from __future__ import annotations

from ...options import parse
from ...privacy.plan import Plan
from .advisor import Forecast


def mechanism_rows(plan: Plan) -> list[tuple[str, str]]:
    """The one noisy sum in words."""
    own = plan.aggregation
    assert own is not None  # an inversion's plan has one
    who = (
        "all units, once"
        if plan.sampling_rate == 1
        else f"a Poisson sample of {plan.expected_batch_size:g} units on average"
    )
    rule = {
        "clip": (
            f"residual from the public anchor, norm at most {plan.clip_norm:.4g}, in"
            f" {own.dimensions} axes ({own.subspace})"
        ),
        "unit": f"the embedding itself at norm 1, {own.dimensions} numbers",
    }[own.rule]
    return [
        ("aggregation", f"Gaussian on the sum of {who}; exact integer noise"),
        (
            "a unit adds",
            rule + (f", in {own.blocks} blocks, one a class" if own.blocks > 1 else ""),
        ),
        ("noise multiplier sigma", f"{plan.noise_multiplier:.4f}"),
        ("divided by", f"{own.divisors[0]:g} for each class, public"),
        (
            "afterwards",
            "shrinkage by the known noise level, at no cost" if own.shrink else "nothing",
        ),
        (
            "class histogram",
            (
                "none"
                if plan.histogram_noise_multiplier is None
                else f"sigma {plan.histogram_noise_multiplier:g}"
            ),
        ),
    ]


def work_rows(plan: Plan, peak_bytes: int, forecast: Forecast, time: str) -> list[tuple[str, str]]:
    """Time and expected quality, for the table of a plan."""
    hope, own = forecast, plan.aggregation
    assert own is not None
    source = "public images" if hope.known else "an assumption; --public-data would say"
    return [
        ("method", f"{plan.method} on base {plan.base}"),
        ("learns", f"{own.vectors} vector(s) for each of {own.blocks} class(es)"),
        ("time here", "at most " + time),
        ("memory here", f"about {peak_bytes / 2**30:.1f} GB"),
        ("expected signal", f"{hope.signal:.2f} of the clip norm ({source})"),
        (
            "expected noise",
            f"{hope.noise:.2f} of the clip norm: signal-to-noise {parse.rounded(hope.snr)}",
        ),
        ("expected cosine", f"{hope.cosine:.2f} between the released direction and the exact mean"),
    ]
