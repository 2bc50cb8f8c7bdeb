"""Class moments in words: what they measure and cost, and when they are not worth it."""

from __future__ import annotations

from ...privacy.plan import Plan

# Units of a class from which the warm-up was measured to help, at epsilon 1 and at 10; its noise
# falls with both (docs/methods.md, "Warm-up on class means").
HELPS, HELPS_AT_TEN = 1000, 200


def rows(plan: Plan) -> list[tuple[str, str]]:
    """The class moments in words, and what they cost training."""
    own = plan.moments
    if own is None:
        return []
    what = "class means" + (" and covariances" if own.rounds > 1 else "")
    assert own.noise_before is not None  # `make_plan` has said
    rise = plan.noise_multiplier / own.noise_before - 1
    return [
        ("warm-up", f"{what} of {own.numbers} numbers, all units, {own.rounds} noisy sums"),
        ("its noise multiplier", f"{own.noise_multiplier:g} of what one unit adds, on each sum"),
        ("warm-up noise", f"{100 * relative_noise(plan):.2g} % of a class mean's bound"),
        (
            "sigma without it",
            f"{own.noise_before:.4f}, with it {plan.noise_multiplier:.4f} ({100 * rise:+.1f} %)",
        ),
    ]


def relative_noise(plan: Plan) -> float:
    """Expected norm of the noise on the class mean of least divisor, in units of its bound."""
    own = plan.moments
    assert own is not None and own.noise_multiplier is not None
    noise = own.noise_multiplier * own.bounds[0] * own.numbers**0.5
    return noise / own.picture_bound / min(own.divisors)


def remarks(plan: Plan) -> list[str]:
    """A warning if the noise hides the class means."""
    if plan.moments is None or (share := relative_noise(plan)) < 0.25:
        return []
    return [
        f"the noise on a class mean is {share:.2g} of the most that it can be: give a smaller"
        " --warm-up-size or a larger --warm-up-share, or leave --warm-up out"
    ]


def proposal(plan: Plan) -> list[str]:
    """That the warm-up may be worth its share, where so many labelled units make it so."""
    classes = len(plan.classes)
    share = plan.n_units / max(classes, 1)
    felt = share * min(10, plan.epsilon_target)
    if plan.moments or plan.captions or classes < 2 or felt < HELPS or share < HELPS_AT_TEN:
        return []
    return [
        f"{share:,.0f} units a class are enough for class means that noise does not hide:"
        " --warm-up means was worth 7 to 11 points on 10,000 digits at epsilon 1, and 1.5 on 60,000"
        " at 10; the best runs of 60,000 digits and garments have --warm-up-steps 2000 with it, and"
        " --noise-draws 2 at epsilon 1 (docs/results.md)"
    ]
