"""The bundled MNIST: complete, unchanged, attributed, small."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from sfumato.records import bundled_digits

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_train_digits_are_the_original_ones():
    digits = bundled_digits("train")
    assert digits.n == digits.n_units == 60_000 and digits.classes == tuple("0123456789")
    assert np.bincount(digits.labels).tolist() == TRAIN_COUNTS
    header = b"\0\0\x08\x03" + np.array(digits.array.shape, ">u4").tobytes()
    assert (
        hashlib.md5(header + digits.array.tobytes()).hexdigest()
        == "6bbc9ace898e44ae57da46a324031adb"
    )
    assert digits.images(np.arange(5), 32).shape == (5, 32, 32, 3)


def test_test_digits():
    digits = bundled_digits("test")
    assert digits.n == 10_000 and digits.labels[:5].tolist() == [7, 2, 1, 0, 4]
    with pytest.raises(ValueError):
        bundled_digits("dev")


def test_archive_is_small_and_attributed():
    data = files("sfumato") / "data"
    assert len((data / "mnist.tar.xz").read_bytes()) <= 11_000_000
    text = (data / "MNIST-LICENSE.md").read_text(encoding="utf-8")
    assert "LeCun" in text and "Cortes" in text and "CC BY-SA 3.0" in text
