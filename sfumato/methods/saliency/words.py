"""A probe in words: what it measures and costs, and when it is not worth it.

Public numbers alone.
"""

from __future__ import annotations

from ...privacy.plan import Plan


def rows(plan: Plan) -> list[tuple[str, str]]:
    """The probe in words, and what it costs training."""
    probe = plan.probe
    if probe is None:
        return []
    who = (
        "all units"
        if probe.expected_batch_size == plan.n_units
        else f"{probe.expected_batch_size:g} units on average"
    )
    what = f"{probe.votes} votes each" if probe.votes else "squared gradient norms"
    assert probe.noise_before is not None  # `make_plan` has said
    rise = plan.noise_multiplier / probe.noise_before - 1
    return [
        ("saliency probe", f"{who}, {what}, for {probe.keep} of {len(probe.groups)} candidates"),
        (
            "its noise multiplier",
            f"{probe.noise_multiplier:g} at sensitivity {probe.sensitivity:.4g}",
        ),
        (
            "sigma without it",
            f"{probe.noise_before:.4f}, with it {plan.noise_multiplier:.4f} ({100 * rise:+.1f} %)",
        ),
    ]


def remarks(plan: Plan) -> list[str]:
    """Warnings if the probe is not worth its cost."""
    probe, found = plan.probe, []
    if probe is None:
        return []
    assert probe.noise_before is not None  # `make_plan` has said
    rise = plan.noise_multiplier / probe.noise_before - 1
    if rise > 0.05:
        found.append(
            f"the probe raises training's noise by {100 * rise:.0f} %: give it more noise or fewer"
            " units"
        )
    # What all units together say of a candidate, on average, beside the noise on it.
    said = probe.expected_batch_size * (probe.votes or probe.sensitivity) / len(probe.groups)
    noise = probe.noise_stddev * probe.grid
    if said < 3 * noise:
        found.append(
            f"the probe's noise ({noise:.3g}) hides its scores (at most {said:.3g} a candidate, on"
            " average): its choice will be close to chance; --choose public costs nothing, and so"
            " does --method lora without a choice"
        )
    if (
        probe.expected_batch_size * probe.noise_draws
        > plan.steps * plan.expected_batch_size * plan.noise_draws
    ):
        found.append("the probe takes longer than training: lower --probe-units or --probe-draws")
    return found
