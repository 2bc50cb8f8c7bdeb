"""Sentences of a certificate about what happened around a run.

Looks, declarations that something is public, and whether the key still exists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.privacy.ledger.entries import Charge, Selected
from sfumato.privacy.mechanisms.selection import HALF, Selection

KEY_KEPT = (
    "The run key was kept when this was made (--keep-key): whoever has the key and what is released"
    " can take the noise off. The guarantee holds against those who do not have it."
)
LATER = (
    "Runs that the owner's ledger charges after this certificate: whoever has their releases too is"
    " bounded by the total of all of them, which only a later certificate states."
)
NOT_COMPARED = "finished without comparing the draft with the ledger"
BEFORE, AFTER = "before training", "after training"  # when prompts were written
LATER_CHOICES = (
    "Not known: this was finished without the ledger, which alone says whether the run was chosen"
    " among others after the folder was made."
)


def stopped_facts(step: int, of: int) -> dict[str, Any]:
    """`stopped` of privacy.json: the owner ended the run at a step before the planned last one.

    ValueError for a step that is no earlier one of the plan.
    """
    if isinstance(step, bool) or not isinstance(step, int) or not 0 < step < of:
        raise ValueError("a run is stopped between its first and its last step")
    return {
        "step": step,
        "of": of,
        "statement": (
            f"Stopped by the owner at step {step:,} of {of:,}, perhaps after pictures of earlier"
            " steps were seen. The guarantee covers every planned step and any such choice; all of"
            " them stay charged."
        ),
    }


def base_vote_facts(
    bases: Sequence[str], digests: Sequence[str], shares: Sequence[float], chosen: int
) -> dict[str, Any]:
    """`base_vote` of privacy.json: which public base the units' noisy votes chose.

    Args:
        bases: Names of the candidates.
        digests: Hash of each.
        shares: Noisy share of the votes for each.
        chosen: Number of the chosen one.

    Raises:
        ValueError: It is not the one with most votes, or lists of several lengths.
    """
    if not len(bases) == len(digests) == len(shares) or chosen != shares.index(max(shares)):
        raise ValueError("the base with most noisy votes is the one that a run goes on with")
    return {
        "candidates": [
            {"base": base, "digest": digest, "share": share}
            for base, digest, share in zip(bases, digests, shares)
        ],
        "chosen": bases[chosen],
        "statement": (
            f"The private images chose the base {bases[chosen]} among {len(bases)} by one noisy"
            " vote of each unit; its cost is part of epsilon, so the shares may be shown."
        ),
    }


def looks_facts(number: int | None) -> dict[str, Any]:
    """`looks` of privacy.json: how often exact figures of these images were computed and shown.

    Or of runs on them. None: nobody asked the ledger.
    """
    if number is None:
        return {
            "exact": None,
            "statement": (
                "Not known: this was finished without the ledger, which alone says how many looks"
                " at exact private scores there were."
            ),
        }
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError("looks are counted from 0")
    if number == 0:
        return {
            "exact": 0,
            "statement": (
                "No look at exact private scores is recorded in the ledger for these images."
            ),
        }
    times = "1 look" if number == 1 else f"{number:,} looks"
    return {
        "exact": number,
        "statement": f"Chosen after {times} at exact private scores; the choice is not covered.",
    }


def unasked(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """A certificate as it may be finished when nobody asked the ledger.

    What only the ledger knows is stated as unknown.
    """
    private = certificate["not_private"]
    opt_ins = [*private["opt_ins"], NOT_COMPARED]
    facts = {
        "not_private": {**private, "opt_ins": opt_ins},
        "looks": looks_facts(None),
        "later_choices": LATER_CHOICES,
    }
    return {**certificate, **facts}


def check_looks(certificate: Mapping[str, Any]) -> bool:
    """Whether looks and choices are stated as the ledger was asked, or as unknown if it was not."""
    asked, number = (
        NOT_COMPARED not in certificate["not_private"]["opt_ins"],
        certificate["looks"]["exact"],
    )
    later = None if asked else LATER_CHOICES
    return (
        certificate["looks"] == looks_facts(number)
        and asked == (number is not None)
        and certificate.get("later_choices") == later
    )


def choice_facts(run: str, select: Selected, charge: Charge, number: str) -> dict[str, Any]:
    """An entry of `selections` of privacy.json: a choice by noisy accuracies with `run` in it.

    select, charge: the SELECT row and its CHARGE row; number: the id under which the ledger charged
    it.
    """
    place = select.runs.index(run)
    mechanism = Selection(len(select.runs), select.held_out_units, select.noise_multiplier)
    entry = {
        "id": number,
        "runs": len(select.runs),
        "chosen": select.chosen == run,
        "accuracy": select.accuracies[place],
        "standard_error": select.standard_errors[place],
        **{
            name: getattr(charge, name)
            for name in ("epsilon", "delta", "unit", "relation", "events")
        },
        "held_out_units": select.held_out_units,
        "grid": 2 * HALF,
        "sensitivity": mechanism.sensitivity,
        "noise_stddev": mechanism.noise_stddev,
        "composes": select.composes[place],
    }
    return entry | {"statement": choice_statement(entry)}


def choice_statement(entry: Mapping[str, Any]) -> str:
    """The same in words."""
    many = f"{entry['runs']:,} runs" if entry["runs"] > 1 else "1 run"
    what = (
        f"Chosen among {many}"
        if entry["chosen"]
        else f"Compared with others ({many}) and not chosen"
    )
    whole = {
        True: (
            "They belong to the same group of images as the training set, so the cost is part of"
            " the total."
        ),
        False: (
            "They share no image that the ledger knows with the training set, so that each unit is"
            " covered by one of the two claims alone."
        ),
        None: (
            "Whether they share images with the training set is not known to the ledger that was"
            " charged."
        ),
    }[entry["composes"]]
    unit = "one record" if entry["unit"] == "record" else f"one value of the column {entry['unit']}"
    return (
        f"{what} by a noisy accuracy on {entry['held_out_units']:,} held-out units, which is"
        f" differentially private for them at epsilon {entry['epsilon']:g}, delta"
        f" {entry['delta']:g} (a unit is {unit}; {entry['relation']}). {whole}"
    )


def check_choice(entry: Mapping[str, Any]) -> bool:
    """Whether an entry's bound and noise are those of its mechanism, and its words fit."""
    if (
        entry["grid"] != 2 * HALF
        or len(entry["events"]) != 1
        or entry["events"][0]["type"] != "gaussian"
    ):
        return False
    mechanism = Selection(
        entry["runs"], entry["held_out_units"], entry["events"][0]["noise_multiplier"]
    )
    same = (entry["sensitivity"], entry["noise_stddev"]) == (
        mechanism.sensitivity,
        mechanism.noise_stddev,
    )
    error = math.isclose(
        entry["standard_error"], mechanism.standard_error(entry["accuracy"]), rel_tol=1e-9
    )
    return (
        same
        and error
        and entry["events"][0]["count"] == 1
        and entry["statement"] == choice_statement(entry)
    )


def held_out_in_words(share: float) -> str:
    """What a split has done before the run."""
    return (
        f"each unit was set apart for testing with chance {share:g}, by a secret keyed hash of its"
        " own value alone; the number of units counts those that remained for training"
    )


def held_out_facts(share: float | None) -> dict[str, Any]:
    """The entry of `public_facts` on a split; none without one."""
    if share is None:
        return {}
    return {"held_out": {"share": share, "statement": held_out_in_words(share)}}


def captions_facts(trained: bool | None) -> dict[str, Any]:
    """The entry of `public_facts` on captions; none where they trained nothing."""
    if not trained:
        return {}
    statement = (
        "Captions trained: yes. The unit holds each image with its captions; one without a caption"
        " was read with the public prompt of its class."
    )
    return {"captions": {"trained": True, "statement": statement}}


def prompts_facts(sha256: str, prompts: int, planned: str | None) -> dict[str, Any]:
    """`prompts_file` of the settings of synthesis.

    Args:
        sha256: Of the file, hex.
        prompts: How many it holds.
        planned: The hash in the plan, None without one.
    """
    before = sha256 == planned
    statement = (
        "The plan, charged before training, names the hash of these prompts."
        if before
        else "The prompts were written after training: what their words say, by whoever may have"
        " seen private images or captions, is not covered."
    )
    written = BEFORE if before else AFTER
    return {"sha256": sha256, "prompts": prompts, "written": written, "statement": statement}


def check_prompts(certificate: Mapping[str, Any]) -> bool:
    """Whether prompts are said to be written before training only where the plan names them."""
    said = certificate["synthesis"]["prompts_file"]
    planned = certificate["public_facts"].get("prompts_file")
    return said == prompts_facts(said["sha256"], said["prompts"], planned)


def public_inputs(certificate: Mapping[str, Any]) -> list[str]:
    """What decided something and was declared public, a sentence each.

    Images, and a base of one's own.
    """
    found = certificate["public_facts"].get("public_inputs") or ()
    return [
        f"{entry['what']}: {entry['count']:,} with the keyed digest {entry['digest']}, which"
        f" decided {entry['decided']}."
        for entry in found
    ]
