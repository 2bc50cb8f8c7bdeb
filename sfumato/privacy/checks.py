"""Rules on single fields of a plan, each with its cure.

Rules on several fields together are in the plan itself.
"""

from __future__ import annotations

import math
import re

from sfumato.privacy import accounting
from sfumato.privacy.fields import Fields


def large_delta(n_units: int) -> str:
    """Why a delta of 1 / n_units or more is refused, and what to do."""
    by_name = "(--allow-large-delta, in Python allow_large_delta=True; recorded)"
    return (
        f"delta must be below 1 / n_units = {1 / n_units:.3g}: lower it, or allow it by name"
        f" {by_name}"
    )


def is_number(value: object) -> bool:
    """A finite int or float; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def is_count(value: object, least: int = 1) -> bool:
    """An int of `least` or more; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, int) and value >= least


def check_numbers(plan: Fields) -> None:
    """ValueError unless every number of the plan lies in its range."""
    counts: dict[str, int] = dict.fromkeys(("n_units", "max_per_unit", "steps", "noise_draws"), 1)
    counts |= dict.fromkeys(("retry_steps", "trainable", "warmup_steps"), 0)
    if plan.rank is not None:
        counts["rank"] = 1
    for name, low in counts.items():
        value = getattr(plan, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(
                f"{name} must be an integer >= {low}: correct it in the plan's arguments"
            )
    positive = [
        "expected_batch_size",
        "clip_norm",
        "noise_multiplier",
        "learning_rate",
        "grid",
        "delta",
    ]
    for name in positive + ["histogram_noise_multiplier"] * (
        plan.histogram_noise_multiplier is not None
    ):
        if not is_number(getattr(plan, name)) or getattr(plan, name) <= 0:
            raise ValueError(
                f"{name} must be a finite number > 0: correct it in the plan's arguments"
            )
    noised = plan.trainable * (plan.steps + plan.retry_steps) + len(plan.classes)
    noised += (len(plan.probe.groups) if plan.probe else 0) + (
        plan.aggregation.numbers if plan.aggregation else 0
    )
    noised += plan.moments.released if plan.moments else 0
    if noised > accounting.MOST_NUMBERS:
        raise ValueError(
            "a plan adds noise to at most 2^54 numbers over all steps: train fewer weights or steps"
        )
    if not is_number(plan.ema_decay) or not 0 <= plan.ema_decay < 1:
        raise ValueError("ema_decay must lie in [0, 1): 0 switches the average off")
    if not is_number(plan.epsilon):
        raise ValueError("the plan's epsilon must be a finite number: make the plan again")


def check_words(plan: Fields) -> None:
    """ValueError unless every text of the plan is one, and the public lists fit together."""
    for name in ("method", "unit"):
        if not isinstance(getattr(plan, name), str) or not getattr(plan, name):
            raise ValueError(f"{name} must be a non-empty text: unit is 'record' or a column name")
    if plan.relation not in accounting.RELATIONS:
        raise ValueError(f"unknown relation: use one of {', '.join(accounting.RELATIONS)}")
    texts = (
        *plan.classes,
        *plan.prompts,
        *plan.target_modules,
        *plan.opt_ins,
        plan.base,
        plan.base_digest,
    )
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            "classes, prompts, target_modules, base and base_digest are texts: convert them"
        )
    if plan.captions not in (None, True) or (plan.captions and plan.aggregation is not None):
        raise ValueError("captions is True where captions train, by steps, and else left out")
    if plan.prompts_file is not None and not re.fullmatch("[0-9a-f]{64}", plan.prompts_file):
        raise ValueError("prompts_file is the SHA-256 of a file of public prompts, in hex")
    if not plan.classes or len(set(plan.classes)) != len(plan.classes):
        raise ValueError("classes must be declared, each once: they are public")
    if len(plan.prompts) != len(plan.classes):
        raise ValueError("one public prompt per class is needed: give as many prompts as classes")


def check_aggregation(plan: Fields) -> None:
    """ValueError unless the training fields of a plan of one noisy sum are empty."""
    own = plan.aggregation
    if own is None:
        return
    if plan.steps != 1 or plan.retry_steps or plan.probe is not None or plan.clipping != "flat":
        raise ValueError(
            "an aggregation is one noisy sum: no steps, no retry reserve, no probe, flat clipping"
        )
    if own.blocks != len(plan.classes) or plan.trainable != own.numbers:
        raise ValueError(
            "the aggregation has one block for each class, and its numbers are what is learned"
        )
    if plan.rounding is not None:
        raise ValueError("an aggregation has a grid of its own: leave the rounding out")
    if own.rule == "unit" and plan.clip_norm != 1.0:
        raise ValueError("unit vectors have norm 1: leave clip_norm out")


def check_moments(plan: Fields) -> None:
    """ValueError unless class moments come before training, and have a block for each class."""
    own = plan.moments
    if own is None:
        return
    if plan.aggregation is not None or plan.voting is not None or plan.probe is not None:
        raise ValueError("class moments go before training, and with no probe: leave one out")
    if own.classes != len(plan.classes):
        raise ValueError("the class moments have one block for each class")


def check_voting(plan: Fields) -> None:
    """ValueError unless a plan of votes is of all units, and has none of training's fields."""
    own = plan.voting
    if own is None:
        return
    if plan.sampling_rate != 1:
        raise ValueError("every unit votes in every round: the expected batch is n_units")
    if plan.probe is not None or plan.aggregation is not None or plan.rounding is not None:
        raise ValueError("votes go with no probe, no aggregation, and no rounding of gradients")
    if plan.clipping != "flat" or plan.clip_norm != 1.0:
        raise ValueError("a unit's votes have norm 1: leave the clip norm and the clipping out")
    if own.classes != len(plan.classes) or plan.trainable != own.candidates:
        raise ValueError(
            "the vote histogram has candidates for each class, and one noisy number for each"
        )


def check_base_vote(plan: Fields) -> None:
    """ValueError unless the plan's base is a candidate of its vote, where it has one."""
    own = plan.base_vote
    if own is not None and (plan.base, plan.base_digest) not in zip(own.bases, own.digests):
        raise ValueError("the plan's base is none of those that are voted on: make the plan again")
