"""The released token beside tokens that do not depend on private images, for a report."""

from __future__ import annotations

from pathlib import Path

from ...bases import read_embeds
from ...releases import MOST_PICTURES
from ...synthesis.dataset import class_of_each, shard_indices
from ..given import Drawing
from ..interface import Prepared
from . import controls
from .adaptation import Inverting
from .cost import expectation


def report_controls(
    prepared: Prepared[Inverting], model: Path, drawing: Drawing | None = None
) -> dict:
    """Controls that a report shows beside the released token.

    From released and public numbers alone, so they may be released.

    Args:
        prepared: From plan, options and public start alone.
        model: Folder of the released token.
        drawing: Which images to draw with each token, if any.
    """
    plan, adapted = prepared.plan, prepared.adaptation
    assert plan.aggregation is not None  # an inversion's plan has one
    released = read_embeds(model, adapted.placeholders)
    public = controls.public_tokens(
        plan.aggregation, adapted.geometry, plan.clip_norm, plan.noise_multiplier
    )
    tokens, hope = {"released": released, **public}, expectation(prepared)
    body = {
        "expected": {
            "signal": hope.signal,
            "noise": hope.noise,
            "cosine": hope.cosine,
            "known": hope.known,
            "word": hope.word,
        },
        "rows": controls.distances(adapted.geometry, tokens),
    }
    if drawing is not None:
        few = shard_indices(drawing.n, drawing.shard)[:MOST_PICTURES]
        labels = class_of_each(int(few[-1]) + 1, drawing.shares)  # any prefix has the same shares
        body["pictures"] = controls.draw_beside(
            drawing.base,
            adapted.placeholders,
            tokens,
            plan.prompts,
            labels,
            few,
            drawing.sampling,
            drawing.seconds,
        )
    return body
