"""Figures of an evaluation as texts with few digits, for page and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.evaluation.utility import UtilityRow
from sfumato.options.parse import rounded

SHARES = ("precision", "recall", "density", "coverage")


def as_text(
    images: Mapping[str, int],
    utility: Mapping[str, Sequence[UtilityRow]],
    distances: Mapping[str, Mapping[str, Any]],
    cosines: Mapping[str, float],
) -> dict[str, dict[str, str]]:
    """The figures of an evaluation as row -> column -> text."""
    found = {row: {"images": f"{count:,}"} for row, count in images.items()}
    for row, results in utility.items():
        found[row] |= {f"{r.classifier}, % right": accuracy(r) for r in results}
    for row, own in distances.items():
        named = f" ({features_of(own)})"
        found[row] |= {
            name + (" distance" + named if name in ("Frechet", "kernel") else ""): text
            for name, text in cells_of_distances(own).items()
        }
    for row, value in cosines.items():
        found.setdefault(row, {})["token's cosine to the exact mean, from the anchor"] = (
            f"{value:.2f}"
        )
    return found


def accuracy(row: UtilityRow) -> str:
    """A mean accuracy in percent, with its sample deviation over seeds."""
    spread = "" if row.std is None else f" ± {100 * row.std:.1f}"
    return f"{100 * row.mean:.1f}{spread}"


def features_of(figures: Mapping[str, Any]) -> str:
    """The name of the features that a row's distances were computed in."""
    return next((name.partition("-")[2] for name in figures if name.startswith("FD-")), "")


def cells_of_distances(figures: Mapping[str, Any]) -> dict[str, str]:
    """Column -> text, for the figures of one row of `Evaluation.distances`."""
    cells: dict[str, str] = {}
    for name, value in figures.items():
        if name.startswith("FD"):
            cells["Frechet"] = rounded(value)
        elif name.startswith("KD"):
            spread = "" if value["std"] is None else f" ± {rounded(value['std'])}"
            cells["kernel"] = f"{rounded(value['mean'])}{spread}"
        else:
            cells |= {share: f"{value[share]:.2f}" for share in SHARES}
    return cells
