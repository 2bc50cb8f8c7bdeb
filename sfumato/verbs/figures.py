"""The figures of an evaluation, row by row, and the private files that hold them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..bases import Base
from ..evaluation import (
    Classifier,
    Comparison,
    Extractor,
    UtilityRow,
    Verdict,
    classifier_features,
    compare,
    train_classifier,
    utility,
    verdict,
)
from ..evaluation.page import by_class, in_words, page
from ..evaluation.tables import as_text
from ..evaluation.verdict import PREFERRED, nearer
from ..options import Judging
from ..runs.prepared import original_base
from ..training import write_file
from .beside import promise
from .cosines import cosines
from .evaluation_time import SOURCE, Countdown
from .real_images import Real, images_of
from .row_images import OF_REAL, Drawing

TESTED = "tested on"  # the real test images, on the page
MOST_COMPARED = 5000
# Of digits beside turned and noisy ones, the kernel distance puts 28 % of pairs of sets in the
# wrong order at 100 images, 2 % at 200 (features of a CNN; 15 % and none in latents of a base).
FEWEST_COMPARED = 200


@dataclass(frozen=True)
class Evaluation:
    """`utility`: row name -> one UtilityRow per classifier.

    `distances`: row name -> figures against the test set, under the name of their features.
    `images`: row name -> images trained on. `cosines`: row name -> cosine of its token to the
    exact mean, both from the public anchor (after an inversion that kept its exact controls).
    `verdict`: what they say, in words. `remarks`: what makes the figures other than they should
    be. `page`: the file to open. PRIVATE.
    """

    utility: dict[str, list[UtilityRow]]
    distances: dict[str, dict[str, Any]]
    images: dict[str, int]
    cosines: dict[str, float] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=lambda: Verdict(()))
    remarks: tuple[str, ...] = ()
    page: Path | None = None


class Figures:
    """The figures of an evaluation, row by row. The look is recorded before one is made."""

    def __init__(self, drawing: Drawing, real: Real, how: Judging, left: Countdown):
        self.drawing, self.real, self.how, self.left = drawing, real, how, left
        self.classes = drawing.run.plan.classes
        self.extractor: Extractor | None = None
        self.judges: dict[str, Classifier] = {}  # of the first seed, by row
        self.accuracies: dict[str, list[UtilityRow]] = {}
        self.distances: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self.too_few: list[str] = []  # rows without distances
        self.labels_read: float | None = None
        self.released: tuple[np.ndarray, np.ndarray] | None = None
        self.shown: dict[str, dict[str, np.ndarray]] = {}

    def all(self, order: Sequence[str]) -> Evaluation:
        """Computes every row, and writes table and page into the run folder."""
        drawing = self.drawing
        test = images_of(self.real.test, self.classes, drawing.resolution, "test")
        self.shown[TESTED] = by_class(*test, self.classes)
        if len(self.classes) == 1:
            self.extractor = latents_of(original_base(drawing.run.plan, drawing.run.options))
        for row in order:
            self.left.begin(f"evaluating {row}")
            images, labels = drawing.images_of(row)
            self.left.finish(row, SOURCE)
            self._row(row, images, labels, test)
        if len(self.classes) > 1:
            said = verdict(self.accuracies, self.real.test_units, self.labels_read)
        elif self.too_few:
            said = Verdict(("What your images added is not measured: too few images.",))
        else:
            said = nearer(self.distances)
        found = Evaluation(
            self.accuracies,
            self.distances,
            self.counts,
            cosines(drawing.run, drawing.others),
            said,
            (*self.real.remarks, *self._left_out()),
            drawing.run.folder / "evaluation" / "page.html",
        )
        self._write(found, len(test[0]))
        return found

    def _row(
        self,
        row: str,
        images: np.ndarray,
        labels: np.ndarray,
        test: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self.counts[row] = len(images)
        if row not in OF_REAL:
            self.shown[row] = by_class(images, labels, self.classes)
        if len(self.classes) > 1:
            self.accuracies[row] = utility(
                images,
                labels,
                *test,
                len(self.classes),
                classifiers=tuple(self.how.classifiers),
                seeds=self.how.of_seeds,
                steps=self.how.steps,
                progress=self._progress(row),
                trained=lambda judge: self._keep(row, judge),
            )
        if row == "synthetic":
            self.released = (images, labels)
        elif row == "real" and row in self.judges and self.released is not None:
            self.labels_read = self.judges[row].accuracy(*self.released)
        number = min(len(images), len(test[0]), MOST_COMPARED)
        if not self.how.with_distances:
            return
        if number < FEWEST_COMPARED:
            self.too_few.append(row)
        else:
            features = self._features(row, images, labels)
            self.distances[row] = _plain(compare(features, test[0][:number], images[:number]))

    def _left_out(self) -> list[str]:
        if not self.too_few:
            return []
        return [
            f"no distances of {', '.join(map(in_words, self.too_few))}: of fewer than"
            f" {FEWEST_COMPARED} images on each side they are mostly noise"
        ]

    def _keep(self, row: str, judge: Classifier) -> None:
        if judge.name == PREFERRED and judge.seed == self.how.of_seeds[0]:
            self.judges[row] = judge

    def _features(self, row: str, images: np.ndarray, labels: np.ndarray) -> Extractor:
        """Of a classifier trained on the first row: no second use of real labels."""
        if self.extractor is None:
            judge = self.judges.get(row)
            if judge is None or judge.seed != 0:
                judge = train_classifier(
                    PREFERRED, images, labels, len(self.classes), seed=0, steps=self.how.steps
                )
            self.extractor = classifier_features(judge, f"cnn-on-{row}")
        return self.extractor

    def _progress(self, row: str) -> Callable[[str, int, float], None]:
        """Counts a row's classifiers, and says no figure."""
        done, total = 0, len(self.how.classifiers) * len(self.how.of_seeds)

        def progress(classifier: str, seed: int, accuracy: float) -> None:
            nonlocal done
            done += 1
            self.left.finish(row, classifier)
            self.left.begin(
                f"evaluating {row}: {done} of {total} classifiers ({classifier}, seed {seed})"
            )

        return progress

    def _write(self, found: Evaluation, tested: int) -> None:
        run, others = self.drawing.run, self.drawing.others
        folder = run.folder / "evaluation"
        folder.mkdir(exist_ok=True)
        body = {
            "PRIVATE": "computed against private or held-out data; not covered by epsilon",
            "in_ledger": True,  # a LOOK row, or all of it was public
            "verdict": asdict(found.verdict),
            "remarks": found.remarks,
            "test_images": tested,
            "test_units": self.real.test_units,
            "images": found.images,
            "utility": {name: [asdict(r) for r in rows] for name, rows in found.utility.items()},
            "distances": found.distances,
            "cosine_to_exact_mean": found.cosines,
            "beside": {row: promise(other) for row, other in others.items()},
        }
        write_file(folder / "utility.json", json.dumps(body, indent=1).encode())
        title = f"{run.folder.name}: {run.plan.method} at epsilon {run.plan.epsilon:.3g}"
        told = as_text(found.images, found.utility, found.distances, found.cosines)
        said = (*found.verdict.sentences, *found.remarks)
        text = page(title, said, told, self.shown)
        write_file(folder / "page.html", text.encode())


def _plain(found: Comparison) -> dict[str, Any]:
    return {
        f"FD-{found.features}": found.frechet,
        f"KD-{found.features}": found.kernel._asdict(),
        "manifold": found.manifold._asdict(),
    }


def latents_of(base: Base) -> Extractor:
    """The base's own autoencoder as features: public, and there before any image is."""

    def function(images: np.ndarray) -> np.ndarray:
        parts = [
            base.encode(images[i : i + 256])[0].flatten(1).numpy()
            for i in range(0, len(images), 256)
        ]
        return np.concatenate(parts)

    return Extractor("autoencoder", function)
