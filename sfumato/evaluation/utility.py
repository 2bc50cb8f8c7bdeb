"""Utility: every classifier trained on synthetic images and tested once on real ones.

With mean and spread over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.errors import SfumatoError
from sfumato.evaluation.classifiers import Classifier, train_classifier
from sfumato.evaluation.networks import NAMES


@dataclass(frozen=True)
class UtilityRow:
    """Accuracies (shares, 0 to 1) of one classifier over seeds.

    `std` is the sample deviation, None for one seed.
    """

    classifier: str
    mean: float
    std: float | None
    accuracies: tuple[float, ...]
    held_out: tuple[float, ...]
    n_train: int
    n_test: int

    def __str__(self) -> str:
        spread = (
            "one seed"
            if self.std is None
            else f"+- {100 * self.std:.2f} over {len(self.accuracies)} seeds"
        )
        return (
            f"{self.classifier}: {100 * self.mean:.2f} % {spread}, {self.n_train} synthetic,"
            f" {self.n_test} real"
        )


def utility(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    classes: int | Sequence[str],
    *,
    classifiers: Sequence[str] = NAMES,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int | None = None,
    progress: Callable[[str, int, float], None] | None = None,
    trained: Callable[[Classifier], None] | None = None,
) -> list[UtilityRow]:
    """Trains on synthetic images, tests on real ones; one row for each classifier, in that order.

    Checkpoints are chosen on held-out synthetic images; the test set is used once for each trained
    model and for no choice. No row is dropped and no best seed picked. Accuracies against private
    records are not differentially private: they belong in the run folder, never in a release, and
    this function leaves no row in the ledger (`verbs.evaluate` does). Raises SfumatoError for
    arrays of another shape, labels out of range, an unknown classifier, or no seed.

    Args:
        train_images: uint8 [N, R, R, 3].
        train_labels: int [N].
        test_images: uint8 [M, R, R, 3].
        test_labels: int [M].
        classes: Their number or their names.
        classifiers: As in `train_classifier`.
        seeds: Public.
        steps: As in `train_classifier`.
        progress: `progress(classifier, seed, accuracy)`, called after each.
        trained: Called with each trained classifier.
    """
    unknown = [name for name in classifiers if name not in NAMES]
    if unknown:
        raise SfumatoError(f"unknown classifier {unknown[0]!r}; choose from {', '.join(NAMES)}")
    if len(seeds) == 0 or len(classifiers) == 0:
        raise SfumatoError("utility needs at least one classifier and one seed")
    if len(set(seeds)) != len(seeds):
        raise SfumatoError("seeds must differ from each other, or the spread would be understated")
    rows = []
    for name in classifiers:
        accuracies, held_out = [], []
        for seed in seeds:
            judge = train_classifier(
                name, train_images, train_labels, classes, seed=seed, steps=steps
            )
            accuracies.append(judge.accuracy(test_images, test_labels))
            held_out.append(judge.held_out_accuracy)
            if trained is not None:
                trained(judge)
            if progress is not None:
                progress(name, seed, accuracies[-1])
        std = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
        mean = math.fsum(accuracies) / len(accuracies)
        rows.append(
            UtilityRow(
                name,
                mean,
                std,
                tuple(accuracies),
                tuple(held_out),
                len(train_images),
                len(test_images),
            )
        )
    return rows
