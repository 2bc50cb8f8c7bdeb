"""A verdict says what was measured, with its noise, and names what was not."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.evaluation import UtilityRow, verdict
from sfumato.evaluation.verdict import nearer

MANY = 10_000


def row(*accuracies, classifier="cnn"):
    std = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    mean = float(np.mean(accuracies))
    return [UtilityRow(classifier, mean, std, accuracies, (0.5,), 100, 100)]


def words(**rows):
    return " ".join(verdict(rows, MANY).sentences)


def test_points_added_and_missing_are_said_with_one_digit():
    found = verdict(
        {
            "synthetic": row(0.9, 0.901, 0.902),
            "public_only": row(0.81, 0.809, 0.811),
            "real": row(0.973, 0.974, 0.972),
        },
        MANY,
    )
    assert found.added.points == pytest.approx(9.1) and found.added.seen
    assert found.sentences[0].startswith("Your images added 9.1 ± 1.0 points over the public base")
    assert "(81.0 to 90.1; real images 97.3)" in found.sentences[0]
    assert found.sentences[1].startswith("7.2 ± 0.7 points are missing to real images. What they")
    assert "rerun with --rows" in found.sentences[1]


def test_a_difference_within_noise_is_nothing():
    said = words(synthetic=row(0.814), public_only=row(0.81))
    assert said.startswith("Your images added nothing that this test can see: 0.4 ± 1.1 points")
    # the same difference on more units, and with a spread over seeds
    many = verdict({"synthetic": row(0.814), "public_only": row(0.81)}, 1_000_000)
    assert many.added.seen and "added 0.4 ± 0.1 points" in many.sentences[0]
    unsteady = {"synthetic": row(0.7, 0.8, 0.942), "public_only": row(0.81)}
    assert not verdict(unsteady, 1_000_000).added.seen
    # images of few people are few, however many they are
    assert not verdict({"synthetic": row(1.0), "public_only": row(0.75)}, 8).added.seen


def test_worse_is_said_to_be_worse():
    said = words(synthetic=row(0.2), public_only=row(0.3))
    assert said.startswith("Adapting made it worse: 10.0 ± 1.2 points below the public base alone")


def test_what_is_missing_is_put_down_to_what_was_measured():
    rows = {
        "synthetic": row(0.8),
        "public_only": row(0.5),
        "non_private": row(0.86),
        "reconstructed": row(0.96),
        "real": row(0.97),
    }
    found = verdict(rows, MANY)
    assert sum(gap.points for gap in found.losses.values()) == pytest.approx(found.missing.points)
    assert [round(gap.points, 1) for gap in found.losses.values()] == [1.0, 10.0, 6.0]
    assert "most of what is missing is the model and its recipe, even without noise" in " ".join(
        found.sentences
    )
    del rows["non_private"]
    said = " ".join(verdict(rows, MANY).sentences)
    assert (
        "most of what is missing is the model, its recipe and privacy (clipping and noise)" in said
    )
    del rows["reconstructed"]
    assert not verdict(rows, MANY).losses


def test_a_cause_within_noise_is_no_cause():
    rows = {"synthetic": row(0.6), "non_private": row(0.72), "real": row(0.84)}
    said = " ".join(verdict(rows, 30).sentences)
    assert "most of" not in said and "the largest part" not in said


def test_what_was_not_measured_is_named():
    assert "is not measured: rerun with --rows synthetic,public_only" in words(synthetic=row(0.9))
    assert "The release was not measured" in words(public_only=row(0.9))
    said = words(synthetic=row(0.9), public_only=row(0.5))
    assert "How far that is from real images is not measured" in said
    assert "one seed, so its spread is not known" in said
    assert "intended class" not in said


def test_the_classifier_that_speaks_is_no_choice_of_the_figures():
    rows = {
        "synthetic": row(0.7) + row(0.99, classifier="wrn"),
        "public_only": row(0.6) + row(0.1, classifier="wrn"),
    }
    found = verdict(rows, MANY)
    assert found.classifier == "cnn" and found.added.points == pytest.approx(10)
    alone = {name: own[1:] for name, own in rows.items()}
    assert verdict(alone, MANY).classifier == "wrn"


def test_labels_that_a_real_classifier_reads_are_said():
    rows = {"synthetic": row(0.9), "public_only": row(0.5), "real": row(0.95)}
    assert "the intended class in 71 % of" in " ".join(verdict(rows, MANY, 0.713).sentences)


def distances(mean, std, blocks=16):
    kernel = {"mean": mean, "std": std, "blocks": blocks, "block_size": 100}
    return {"FD-autoencoder": 1.0, "KD-autoencoder": kernel, "manifold": {}}


@pytest.mark.parametrize(
    "own, base, words",
    [
        ((0.1, 0.02), (0.5, 0.02), "Your images brought the release nearer"),
        ((0.5, 0.02), (0.1, 0.02), "Adapting made it worse"),
        ((0.5, 0.4), (0.6, 0.4), "Your images added nothing that this test can see"),
        ((0.5, None), (0.6, None), "Whether your images added anything is not measured"),
    ],
)
def test_one_class_is_judged_by_its_distances(own, base, words):
    found = nearer({"synthetic": distances(*own), "public_only": distances(*base)})
    assert found.sentences[0].startswith(words) and found.classifier is None


def test_one_class_without_the_base_is_not_judged():
    assert "is not measured" in nearer({"synthetic": distances(1.0, 0.1)}).sentences[0]
