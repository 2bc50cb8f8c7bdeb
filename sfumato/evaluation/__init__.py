"""What the synthetic images are worth: classifiers trained on them, and distances under honest
names.

Whoever calls these functions on private images sees exact private scores, which no epsilon pays for
and no row of the ledger counts: `sfumato evaluate` (`protocol.evaluate`) is the way that leaves a
row. What is seen here, a certificate cannot know.
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

__all__ = [
    "Classifier",
    "Comparison",
    "Extractor",
    "UtilityRow",
    "classifier_features",
    "compare",
    "frechet_distance",
    "kernel_distance",
    "load_torchscript_extractor",
    "precision_recall_density_coverage",
    "train_classifier",
    "utility",
]
