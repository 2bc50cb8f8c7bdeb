"""What a method would train of a base and nothing can teach: found before the plan, left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..compute import ranks
from ..compute.stored import unpack
from ..errors import ModelError
from ..gradients import unreached
from ..training import Batch
from ..training.dummy import dummy_rows
from .adaptation import Adaptation, Adapted
from .prompts import Prompts
from .room import measuring

# Dummy records that must agree, and the step to a record's neighbour.
RECORDS, ASIDE = 4, 2.0**-12
MOST_NAMES = 6  # that a remark names


def left_out(adapted: Adapted, prompts: Prompts, classes: int) -> tuple[str, ...]:
    """Names of tensors that get no gradient, from the base and dummy records alone.

    Rounding takes part in it, so the first rank decides, and a run keeps the list
    (`Prepared.options`): what trains is never decided a second time.

    Args:
        adapted: What `Method.apply` returned.
        prompts: Of the classes.
        classes: How many there are.

    Raises:
        ModelError: Nothing gets a gradient, or data would decide what does.
    """
    if not isinstance(adapted, Adaptation):
        return ()  # a method without a gradient of many tensors

    def found() -> tuple[str, ...]:
        try:
            with measuring():
                pairs = _records(adapted, prompts, classes)
                return tuple(unreached(adapted.trainable, adapted.exact_losses, pairs))
        except ValueError as error:
            raise ModelError(f"this base cannot be adapted by this method: {error}") from error

    return ranks.on_first_rank(found)


def _records(adapted: Adaptation, prompts: Prompts, classes: int) -> Iterator[tuple[Batch, Batch]]:
    """Single dummy records and their neighbours; the last one's prompt is dropped."""
    batch = of_a_token(dummy_rows(adapted.base, classes, RECORDS, 1), prompts)
    batch = replace(batch, drop=torch.arange(RECORDS)[:, None] == RECORDS - 1)
    for i in range(RECORDS):
        one = batch[i : i + 1]
        yield one, replace(one, mean=one.mean * (1 + ASIDE), noise=one.noise * (1 - ASIDE))


def of_a_token(batch: Batch, words: Prompts) -> Batch:
    """The batch with its first record in a class that has a token, where only some have one."""
    if len(words.tokens) in (0, len(words.prompts)):
        return batch
    label = batch.label.clone()
    label[0] = next(place for place, word in enumerate(words.placeholders) if word)
    return replace(batch, label=label)


def noted(names: Collection[str]) -> dict[str, Any]:
    """What a run keeps of it: nothing where nothing was left out."""
    return {"left_out": list(names)} if names else {}


def apply_noted(adapted: Any, options: Mapping[str, Any]) -> Any:
    """An adaptation of a run without what its plan has left out; what trains is float32."""
    names = options.get("left_out", ())
    known = [name for name in names if name in adapted.trainable] if names else []
    adapted = adapted.without(known) if known else adapted
    if isinstance(adapted, Adaptation):
        unpack(adapted.trainable.values())
    return adapted


def remarks(options: Mapping[str, Any], trained: int) -> list[str]:
    """What a plan says of it: one line, or none."""
    names = options.get("left_out", ())
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return [
        f"{len(names)} of {len(names) + trained} tensors get no gradient from any picture, so they"
        f" stay as they are and no noise is put on them: {', '.join(names[:MOST_NAMES])}{more}"
    ]
