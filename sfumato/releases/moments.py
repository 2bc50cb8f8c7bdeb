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

COUNTED = (
    "each unit adds its latents, scaled down in size and to what a constant leaves of the bound,"
    " and that constant, which counts it, in the block of its class; in a second round the products"
    " of pairs of numbers of its residual from the noisy class mean, scaled down to the bound"
    " before; the mean of its images, where it has several"
)
MOVED = (
    "each picture was moved by a linear map of its class, made from {} pictures a class, drawn with"
    " public seeds: it carries mean and covariance of the class's towards the noisy ones that the"
    " run paid for, as far as these stand out of their noise; a function of noised results and"
    " public seeds, at no further cost"
)


def rule_in_words(moments: Moments) -> str:
    """What each unit adds."""
    return COUNTED if moments.counting else RULE


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
        "rule_in_words": rule_in_words(moments),
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
            **({"counting": moments.counting} if moments.counting else {}),
        },
        "training_noise_multiplier_without": moments.noise_before,
    }
    return query, events[:place] + events[place + 1 :]


def moved_facts(drawn: int, digest: str) -> dict[str, Any]:
    """What the certificate says of pictures that were moved to the noisy class moments.

    Args:
        drawn: Pictures a class from which the model's own moments are known.
        digest: Of the noisy sums, as the ledger knows them.
    """
    return {
        "class_moments": {
            "drawn_per_class": drawn,
            "sha256": digest,
            "statement": MOVED.format(drawn),
        }
    }


def check_moved(certificate: Mapping[str, Any]) -> bool:
    """Whether the moved pictures are told of as `moved_facts` does, and the moments were paid."""
    said = certificate["synthesis"]["class_moments"]
    drawn, paid = said.get("drawn_per_class"), certificate["mechanism"]["one_shot"]
    whole = isinstance(drawn, int) and not isinstance(drawn, bool) and drawn > 0
    own = [query["class_moments"] for query in paid if "class_moments" in query]
    return (
        whole
        and isinstance(said.get("sha256"), str)
        and said == moved_facts(drawn, said["sha256"])["class_moments"]
        and any(one.get("rounds") == 2 for one in own)
    )
