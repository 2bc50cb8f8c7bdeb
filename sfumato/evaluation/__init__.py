"""Quality of the synthetic images: classifiers trained on them, and distances.

A distance is named after the features it is computed on. Calling these functions on private images
gives exact private scores, which no epsilon pays for and no row of the ledger counts; `sfumato
evaluate` (`verbs.evaluate`) leaves a row. A certificate cannot know of scores seen here.
"""

from __future__ import annotations

from sfumato.evaluation.classifiers import Classifier, train_classifier
from sfumato.evaluation.distances import (
    Comparison,
    compare,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)
from sfumato.evaluation.features import Extractor, classifier_features, load_torchscript_extractor
from sfumato.evaluation.utility import UtilityRow, utility
from sfumato.evaluation.verdict import Gap, Verdict, verdict

__all__ = [
    "Classifier",
    "Comparison",
    "Extractor",
    "Gap",
    "UtilityRow",
    "Verdict",
    "classifier_features",
    "compare",
    "frechet_distance",
    "kernel_distance",
    "load_torchscript_extractor",
    "precision_recall_density_coverage",
    "train_classifier",
    "utility",
    "verdict",
]
