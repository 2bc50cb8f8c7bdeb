"""What the accuracies of an evaluation say, in sentences that claim no more than was measured.

Everything here is computed from exact private figures: PRIVATE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.evaluation.utility import UtilityRow
from sfumato.options.parse import rounded

PREFERRED = "cnn"  # the classifier that speaks; a fixed rule, so that no figure chooses it
SURE = 2  # standard errors
# From the real images to the release: each row loses something to the one before it.
CHAIN = ("real", "reconstructed", "non_private", "synthetic")
LOSSES = {
    ("real", "reconstructed"): "the base's autoencoder",
    ("reconstructed", "non_private"): "the model and its recipe, even without noise",
    ("non_private", "synthetic"): "privacy (clipping and noise)",
    ("real", "non_private"): "the base's autoencoder, the model and its recipe, even without noise",
    ("reconstructed", "synthetic"): "the model, its recipe and privacy (clipping and noise)",
}


@dataclass(frozen=True)
class Gap:
    """A difference of two accuracies, in points (percent of the test images), and its error.

    error: two standard errors, of the draw of the test units and of the seeds.
    """

    points: float
    error: float

    @property
    def seen(self) -> bool:
        """Whether it is larger than its error."""
        return abs(self.points) > self.error

    def __str__(self) -> str:
        return f"{self.points:.1f} ± {self.error:.1f} points"


@dataclass(frozen=True)
class Verdict:
    """What an evaluation says. PRIVATE.

    Attributes:
        sentences: In words.
        classifier: Whose accuracies they are about; None where there is nothing to classify.
        added: The release over the public base alone; None: not measured.
        missing: Real images over the release; None: not measured.
        losses: What is missing, by cause, as far as it was measured.
        labels_read: Share of synthetic images in which a classifier trained on real ones reads the
            intended class; None: not measured.
    """

    sentences: tuple[str, ...]
    classifier: str | None = None
    added: Gap | None = None
    missing: Gap | None = None
    losses: Mapping[str, Gap] = field(default_factory=dict)
    labels_read: float | None = None


def verdict(
    utility: Mapping[str, Sequence[UtilityRow]],
    test_units: int,
    labels_read: float | None = None,
) -> Verdict:
    """The verdict on a release.

    Args:
        utility: Row name -> one UtilityRow per classifier.
        test_units: Units among the test images: images of one person are no independent draws.
        labels_read: As in `Verdict`.
    """
    found = {name: _speaking(rows) for name, rows in utility.items()}
    if "synthetic" not in found:
        return Verdict(("The release was not measured: rerun with --rows synthetic,public_only.",))
    own = found["synthetic"]
    gap = _Gaps(found, test_units)
    added = gap("public_only", "synthetic")
    missing = gap("synthetic", "real")
    losses = _losses(found, gap)
    said = [_added(found, added)]
    if added is not None and missing is None:
        said.append(
            "How far that is from real images is not measured: rerun with --rows"
            " synthetic,public_only,real."
        )
    if missing is not None:
        said += _missing(missing, losses)
    if labels_read is not None:
        said.append(
            f"A classifier trained on the real images reads the intended class in"
            f" {100 * labels_read:.0f} % of the synthetic images."
        )
    seeds = len(own.accuracies)
    spread = "one seed, so its spread is not known" if own.std is None else f"{seeds} seeds"
    said.append(
        f"Figures: accuracy of the classifier {own.classifier} ({spread}) on real test images of"
        f" {test_units:,} units; ± is two standard errors."
    )
    return Verdict(tuple(said), own.classifier, added, missing, losses, labels_read)


def _speaking(rows: Sequence[UtilityRow]) -> UtilityRow:
    named = [row for row in rows if row.classifier == PREFERRED]
    return named[0] if named else rows[-1]


class _Gaps:
    """Differences between rows, by name."""

    def __init__(self, rows: Mapping[str, UtilityRow], units: int):
        self.rows, self.units = rows, units

    def __call__(self, low: str, high: str) -> Gap | None:
        """How much more accurate `high` is; None if one of the two was not measured."""
        if low not in self.rows or high not in self.rows:
            return None
        pair = [self.rows[low], self.rows[high]]
        error = math.sqrt(sum(self._variance(row) for row in pair))
        return Gap(100 * (pair[1].mean - pair[0].mean), 100 * SURE * error)

    def _variance(self, row: UtilityRow) -> float:
        """Of a mean accuracy: of the test units' draw, and of the seeds.

        The share is that of Agresti and Coull (add two of each), so that all right of few is not
        certain.
        """
        n = self.units
        share = (row.mean * n + SURE) / (n + 2 * SURE)
        seeds = 0.0 if row.std is None else row.std**2 / len(row.accuracies)
        return share * (1 - share) / (n + 2 * SURE) + seeds


def _losses(rows: Mapping[str, UtilityRow], gap: _Gaps) -> dict[str, Gap]:
    """The steps from real images to the release that were measured, by cause."""
    chain = [name for name in CHAIN if name in rows]
    found: dict[str, Gap] = {}
    for before, after in zip(chain, chain[1:]):
        lost = gap(after, before)
        if (before, after) in LOSSES and lost is not None:
            found[LOSSES[before, after]] = lost
    return found


def _percent(row: UtilityRow) -> str:
    return f"{100 * row.mean:.1f}"


def _added(found: Mapping[str, UtilityRow], added: Gap | None) -> str:
    own = _percent(found["synthetic"])
    if added is None:
        return (
            f"The release gives {own} %. What your images added is not measured: rerun with --rows"
            " synthetic,public_only."
        )
    steps = f"{_percent(found['public_only'])} to {own}"
    steps += f"; real images {_percent(found['real'])}" if "real" in found else ""
    size = f"{abs(added.points):.1f} ± {added.error:.1f} points"
    if not added.seen:
        return (
            f"Your images added nothing that this test can see: {size} of difference to the public"
            f" base are within noise ({steps})."
        )
    if added.points < 0:
        return f"Adapting made it worse: {size} below the public base alone ({steps})."
    return f"Your images added {size} over the public base ({steps})."


def _missing(missing: Gap, losses: Mapping[str, Gap]) -> list[str]:
    if not missing.seen:
        return [
            "Nothing is missing to real images that this test can see"
            f" ({missing.points:.1f} ± {missing.error:.1f} points)."
        ]
    if missing.points < 0:
        return [f"The release does better than the real images by {-missing.points:.1f} points."]
    said = f"{missing.points:.1f} ± {missing.error:.1f} points are missing to real images"
    if not losses:
        return [
            f"{said}. What they are lost to is not measured: rerun with --rows"
            " synthetic,public_only,real,reconstructed,non_private."
        ]
    each = ", ".join(f"{gap} to {cause}" for cause, gap in losses.items())
    cause, largest = max(losses.items(), key=lambda item: item[1].points)
    if not largest.seen or largest.points <= 0:
        return [f"{said}: {each}. None of these is larger than its noise."]
    most = "most of what is missing" if 2 * largest.points > missing.points else "the largest part"
    said = [f"{said}; {most} is {cause} ({largest}).", f"By cause: {each}."]
    return said if len(losses) > 1 else said[:1]


def nearer(distances: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """The verdict where all images are one class, by kernel distances to the real test images.

    Args:
        distances: Row -> figures, as in `Evaluation.distances`.
    """
    if not distances:
        return Verdict(("What your images added is not measured: leave --no-distances out.",))
    kernels = {
        row: next(value for name, value in figures.items() if name.startswith("KD"))
        for row, figures in distances.items()
    }
    if not {"synthetic", "public_only"} <= set(kernels):
        return Verdict(
            ("What your images added is not measured: rerun with --rows synthetic,public_only.",)
        )
    own, base = kernels["synthetic"], kernels["public_only"]
    near, far = rounded(own["mean"]), rounded(base["mean"])
    said = f"kernel distance to the real test images {near}, of the public base's images {far}"
    if "real" in kernels:
        said += f", of the private images themselves {rounded(kernels['real']['mean'])}"
    if own["std"] is None or base["std"] is None:
        return Verdict(
            (
                f"Whether your images added anything is not measured: too few images to tell a"
                f" difference from noise ({said}).",
            )
        )
    error = SURE * math.sqrt(sum(k["std"] ** 2 / k["blocks"] for k in (own, base)))
    apart = base["mean"] - own["mean"]
    if abs(apart) <= error:
        text = f"Your images added nothing that this test can see: {said}, within noise."
    elif apart > 0:
        text = f"Your images brought the release nearer to the real ones: {said}."
    else:
        text = f"Adapting made it worse: {said}."
    return Verdict((text,))
