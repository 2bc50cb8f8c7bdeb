"""Extractors: a trained classifier's features, a user's TorchScript file, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.evaluation import (
    Extractor,
    classifier_features,
    load_torchscript_extractor,
    train_classifier,
)

IMAGES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)


class Stub(torch.nn.Module):
    """Channel means, doubled on request, as a stand-in for an exported Inception network."""

    def forward(self, x: torch.Tensor, double: bool = False) -> torch.Tensor:
        means = x.float().mean(dim=[2, 3])
        return means * 2 if double else means


@pytest.fixture
def stub(tmp_path):
    path = tmp_path / "tiny-inception.pt"
    torch.jit.script(Stub()).save(str(path))
    return path


def test_torchscript_file(stub):
    means = IMAGES.astype(float).mean((1, 2))
    extractor = load_torchscript_extractor(stub, batch=5)
    assert extractor.name == "tiny-inception"
    np.testing.assert_allclose(extractor(IMAGES), means, rtol=1e-5)
    doubled = load_torchscript_extractor(stub, name="twice", options={"double": True})
    assert doubled.name == "twice"
    np.testing.assert_allclose(doubled(IMAGES), 2 * means, rtol=1e-5)
    scaled = load_torchscript_extractor(stub, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    np.testing.assert_allclose(scaled(IMAGES), (means / 255 - 0.5) / 0.25, atol=1e-5)
    resized = load_torchscript_extractor(stub, size=24)
    np.testing.assert_allclose(resized(IMAGES), means, rtol=0.05)


def test_other_files_are_refused(tmp_path):
    pickled, text = tmp_path / "weights.pt", tmp_path / "notes.pt"
    torch.save({"weight": torch.zeros(2)}, pickled)
    text.write_text("not an archive")
    for path in (pickled, text, tmp_path / "absent.pt", tmp_path):
        with pytest.raises(SfumatoError):
            load_torchscript_extractor(path)


def test_mean_without_std_is_refused(stub):
    with pytest.raises(SfumatoError):
        load_torchscript_extractor(stub, mean=[0.5, 0.5, 0.5])


def test_classifier_features():
    trained = train_classifier("cnn", IMAGES, np.arange(12) % 2, 2, steps=1)
    extractor = classifier_features(trained, "cnn-noise")
    assert extractor.name == "cnn-noise"
    np.testing.assert_array_equal(extractor(IMAGES), trained.features(IMAGES).astype(np.float64))


@pytest.mark.parametrize("result", [np.zeros(12), np.zeros((11, 2)), np.full((12, 2), np.inf)])
def test_a_callable_of_the_wrong_shape_is_refused(result):
    with pytest.raises(SfumatoError):
        Extractor("wrong", lambda images: result)(IMAGES)
