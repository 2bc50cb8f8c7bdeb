"""Every classifier and every seed is reported, and the test set is read once for each trained
model.
"""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.evaluation import Classifier, utility


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = generator.integers(0, 2, n)
    images = generator.integers(0, 150, (n, 16, 16, 3)).astype(np.uint8)
    images[labels == 1, :8] += 60
    return images, labels


def test_rows_mean_and_spread(monkeypatch):
    train, test = halves(40, 0), halves(30, 1)
    tested = []
    accuracy = Classifier.accuracy

    def spy(self, images, labels):
        if images is test[0]:
            tested.append((self.name, self.seed))
        return accuracy(self, images, labels)

    monkeypatch.setattr(Classifier, "accuracy", spy)
    seen = []
    rows = utility(
        *train,
        *test,
        2,
        classifiers=("logistic", "cnn"),
        seeds=(0, 1, 2),
        steps=8,
        progress=lambda *a: seen.append(a),
    )
    assert [row.classifier for row in rows] == ["logistic", "cnn"]
    assert tested == [(name, seed) for name in ("logistic", "cnn") for seed in (0, 1, 2)]
    assert [a[:2] for a in seen] == tested
    for row in rows:
        assert len(row.accuracies) == len(row.held_out) == 3
        assert row.mean == pytest.approx(np.mean(row.accuracies))
        assert row.std == pytest.approx(np.std(row.accuracies, ddof=1))
        assert (row.n_train, row.n_test) == (40, 30)
        assert "over 3 seeds" in str(row) and "40 synthetic, 30 real" in str(row)


def test_one_seed_has_no_spread():
    train, test = halves(20, 0), halves(20, 1)
    (row,) = utility(*train, *test, 2, classifiers=("logistic",), seeds=(5,), steps=2)
    assert row.std is None and "one seed" in str(row)


@pytest.mark.parametrize(
    "options", [{"seeds": ()}, {"seeds": (1, 1)}, {"classifiers": ()}, {"classifiers": ("vgg",)}]
)
def test_refused(options):
    train = halves(20, 0)
    with pytest.raises(SfumatoError):
        utility(*train, *train, 2, steps=1, **options)
