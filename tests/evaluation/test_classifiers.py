"""Training a classifier on generated shapes: it learns them, repeats itself, and leaves global
state alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.evaluation import train_classifier
from sfumato.evaluation.classifiers import is_grey, random_affine
from sfumato.evaluation.networks import NAMES, build


def shapes(
    n: int, size: int = 32, seed: int = 0, colour: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Bars: horizontal (0), vertical (1), both (2), at random places over noise."""
    generator = np.random.Generator(np.random.PCG64(seed))
    images = generator.integers(0, 40, (n, size, size)).astype(np.uint8)
    labels = generator.integers(0, 3, n)
    wide = size // 8
    for image, label in zip(images, labels):
        row, column = generator.integers(size // 4, size - size // 4, 2)
        if label != 1:
            image[row : row + wide, size // 8 : -size // 8] = 230
        if label != 0:
            image[size // 8 : -size // 8, column : column + wide] = 230
    images = np.repeat(images[..., None], 3, axis=3)
    if colour:
        images[..., 0] //= 2
    return images, labels.astype(np.int64)


@pytest.mark.parametrize(
    ("name", "size", "steps"), [("cnn", 32, 40), ("resnet", 32, 25), ("wrn", 16, 70)]
)
def test_learns_shapes(name, size, steps):
    train, test = shapes(400, size), shapes(150, size, seed=1)
    trained = train_classifier(name, *train, 3, steps=steps)
    assert trained.accuracy(*test) > 0.8
    assert trained.held_out_accuracy > 0.8
    predicted, features = trained.predict(test[0]), trained.features(test[0])
    assert predicted.dtype == np.int64 and predicted.shape == (150,)
    assert features.dtype == np.float32 and features.shape == (150, 128)
    np.testing.assert_allclose(trained.probabilities(test[0]).sum(1), 1, atol=1e-5)
    assert trained.accuracy(*test) == (predicted == test[1]).mean()


def test_logistic_learns_a_linear_rule():
    generator = np.random.Generator(np.random.PCG64(0))
    labels = generator.integers(0, 2, 300)
    images = generator.integers(0, 100, (300, 32, 32, 3)).astype(np.uint8)
    images[labels == 1, :16] += 100
    trained = train_classifier("logistic", images, labels, ["dark", "light"], steps=60)
    assert trained.accuracy(images, labels) > 0.98
    assert trained.features(images).shape == (300, 3 * 16 * 16)


def test_same_seed_same_classifier_and_global_state_untouched():
    images, labels = shapes(60)
    torch.manual_seed(7)
    np.random.seed(7)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = train_classifier("cnn", images, labels, 3, seed=3, steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()
    torch.manual_seed(8)
    second = train_classifier("cnn", images, labels, 3, seed=3, steps=3)
    other = train_classifier("cnn", images, labels, 3, seed=4, steps=3)
    np.testing.assert_array_equal(first.features(images), second.features(images))
    assert not np.array_equal(first.features(images), other.features(images))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes(name, size):
    images, labels = shapes(24, size=size)
    trained = train_classifier(name, images, labels, 3, steps=2)
    assert trained.predict(images).shape == (24,)
    assert trained.grey


def test_colour_is_decided_on_the_training_images_alone():
    colour, labels = shapes(30, colour=True)
    grey, _ = shapes(30)
    assert is_grey(grey) and not is_grey(colour)
    assert is_grey(np.clip(grey.astype(int) + np.array([0, 3, -3]), 0, 255).astype(np.uint8))
    on_grey = train_classifier("cnn", grey, labels, 3, steps=2)
    on_colour = train_classifier("cnn", colour, labels, 3, steps=2)
    assert on_grey.grey and not on_colour.grey
    for trained in (on_grey, on_colour):
        assert trained.predict(colour).shape == trained.predict(grey).shape == (30,)


def test_progress_counts_every_step():
    seen = []
    train_classifier(
        "logistic", *shapes(20), 3, steps=5, progress=lambda step, steps: seen.append((step, steps))
    )
    assert seen == [(i, 5) for i in range(1, 6)]


def test_affine_keeps_shape_and_range_and_moves_little():
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, 12:20, 12:20] = 1
    moved = random_affine(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape and 0 <= moved.min() and moved.max() <= 1
    columns = torch.arange(32.0)
    centre = (moved.sum(2) * columns).sum((1, 2)) / moved.sum((1, 2, 3)) - 15.5
    assert centre.abs().max() < 1.7 * 1.2 and centre.std() > 0.5


@pytest.mark.parametrize(
    ("name", "millions"), [("cnn", (0.2, 0.26)), ("resnet", (0.3, 0.7)), ("wrn", (0.3, 0.8))]
)
def test_sizes_of_networks(name, millions):
    network = build(name, 1, 10, torch.Generator().manual_seed(0))
    count = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions[0] <= count <= millions[1]
    assert all(p.isfinite().all() for p in network.state_dict().values())


def test_bad_input_is_one_line():
    images, labels = shapes(20)
    calls = [
        lambda: train_classifier("vgg", images, labels, 3),
        lambda: train_classifier("cnn", images.astype(np.float32), labels, 3),
        lambda: train_classifier("cnn", images[:, :20], labels, 3),
        lambda: train_classifier("cnn", images[:5], labels[:5], 3),
        lambda: train_classifier("cnn", images, labels[:-1], 3),
        lambda: train_classifier("cnn", images, labels - 1, 3),
        lambda: train_classifier("cnn", images, labels, 2),
        lambda: train_classifier("cnn", images, labels, 3, steps=0),
        lambda: train_classifier("cnn", images[:, :8, :8], labels, 3),
    ]
    for call in calls:
        with pytest.raises(SfumatoError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
