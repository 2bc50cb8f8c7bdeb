"""Class moments, for `privacy.json`: what each unit adds, and its bound, noise and divisors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.privacy.mechanisms.moments import GRID, Moments

RULE = (
    "each unit adds its latents, scaled down in size and to the bound, in the block of its class;"
    " in a second round the products of pairs of numbers of its residual from the noisy class mean,"
    " scaled down to the bound before; the mean of its images, where it has several"
)


def take_moments(
    plan: Mapping[str, Any], events: list[dict[str, Any]]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The plan's class moments as a query of the certificate, and the events without their own.

    Args:
        plan: As JSON.
        events: As JSON.

    Returns:
        The query, or None without class moments; the rest of the events.

    Raises:
        SfumatoError: The events do not pay for them.
    """
    if not plan.get("moments"):
        return None, events
    moments = Moments.from_json(plan["moments"])
    noise, rounds = moments.noise_multiplier, moments.rounds
    own = {"type": "gaussian", "noise_multiplier": noise, "count": rounds}
    if own not in events:
        raise SfumatoError(
            "the plan has class moments that its events do not pay for; make the plan again"
        )
    place = events.index(own)
    query = {
        "name": "class moments",
        "type": "gaussian",
        "noise": noise,
        "count": rounds,
        "sampling_rate": 1.0,
        "sampler": "all units, in every round",
        "rule_in_words": RULE,
        "sensitivity": 1.0,
        "noise_stddev": moments.noise_stddev / GRID,
        "grid": (
            f"the bound / {GRID}: a unit's vector is rounded towards zero and its norm"
            " checked in integers; the noise is discrete Gaussian, its variance 4 squared grid"
            " units above the billed one: the cost of integers, as priced"
        ),
        "class_moments": {
            "classes": moments.classes,
            "numbers": moments.numbers,
            "rounds": rounds,
            "bounds": list(moments.bounds),
            "divisors": list(moments.divisors),
        },
        "training_noise_multiplier_without": moments.noise_before,
    }
    return query, events[:place] + events[place + 1 :]
