"""Cosines of an inversion's tokens to the exact mean. PRIVATE."""

from __future__ import annotations

from ..bases import read_embeds
from ..methods import METHODS
from ..methods.inversion.controls import cosine
from ..runs.folder import Run
from ..runs.looks import record_look


def token_cosines(run: Run, others: dict[str, Run]) -> dict[str, float]:
    """Row -> cosine between a token and the exact mean, both from the anchor. PRIVATE, and a look.

    Returns:
        Empty if the mean was not kept.
    """
    if has_exact_mean(run):
        record_look(run, ("cosines",), rows=tuple(others))
    return cosines(run, others)


def has_exact_mean(run: Run) -> bool:
    """Whether the run kept the mean without noise."""
    rows = METHODS[run.plan.method].control_rows
    return "non_private" in rows and (run.folder / "controls" / rows["non_private"]).exists()


def cosines(run: Run, others: dict[str, Run]) -> dict[str, float]:
    """`token_cosines`, where the look was recorded."""
    folder = run.folder / "controls"
    if not has_exact_mean(run):
        return {}
    words, kept = run.options["prompts"]["placeholders"], METHODS[run.plan.method].control_rows
    anchor, exact = (
        read_embeds(folder / kept[row], words).double().flatten(1)
        for row in ("public_only", "non_private")
    )
    tokens = {"synthetic": (run.model, words)}
    tokens |= {row: (folder / kept[row], words) for row in ("noise_only", "one_image")}
    tokens |= {
        row: (other.model, other.options["prompts"]["placeholders"])
        for row, other in others.items()
        if METHODS[other.plan.method].learns_tokens
    }
    found = {row: read_embeds(*place).double().flatten(1) for row, place in tokens.items()}
    return {
        row: round(float(cosine(u - anchor, exact - anchor)), 4)
        for row, u in found.items()
        if u.shape == exact.shape
    }
