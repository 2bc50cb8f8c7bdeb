"""What a run took as public, and the runs that its base or its public images come from.

As a certificate states them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sfumato.privacy.ledger.entries import TakenAsPublic

DECLARED = "public data, by the operator's declaration"
OF_NOTHING = "none:"  # how the name of a base of random numbers begins in a plan
NO_MODEL = "random numbers of a public seed: no public model and no public images were used"


def public_inputs(rows: Iterable[TakenAsPublic]) -> list[dict[str, Any]]:
    """PUBLIC rows as privacy.json lists them.

    `digest` is keyed: it reveals nothing of an image, and the ledger knows it.
    """
    said = ("what", "count", "digest", "decided")
    return [{name: getattr(row, name) for name in said} for row in rows]


def public_in_words(rows: Iterable[TakenAsPublic]) -> list[str]:
    """A sentence for each set of public images."""
    return [
        f"The {row.count:,} public images that decided {row.decided}: the guarantee is"
        " conditional on their being public; what the run says of them is exact."
        for row in rows
    ]


def base_in_words(lineage: Iterable[Mapping[str, Any]]) -> str:
    """The origin of the base, as a sentence.

    The operator's declaration, or the runs before this one with what is added up.
    """
    runs = list(lineage)
    if not any(run["through"] == "base" for run in runs):
        return "; ".join([DECLARED, *map(_ancestor, runs)])
    return "; ".join(map(_ancestor, runs))


def _ancestor(run: Mapping[str, Any]) -> str:
    what = "adapted" if run["through"] == "base" else "public images drawn"
    promise = (
        f"epsilon {run['epsilon']:g}, delta {run['delta']:g}, unit {run['unit']}, relation"
        f" {run['relation']}"
    )
    whose = "of this ledger" if run["owner"] == "this ledger" else "of another owner"
    if run["counted"]:
        why = (
            "shares images with this one"
            if run["owner"] == "this ledger"
            else "may have had the same images or units"
        )
        told = (
            f"which {why}, so the total counts it, or is not stated where the two cannot be added"
        )
    else:
        told = "which shares no image with this one that the ledger knows, so its cost stands alone"
    return f"{what} by run {run['run']} {whose} ({promise}), {told}"
