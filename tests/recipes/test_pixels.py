"""The recipe of the class-conditional base: names, an interrupted training, and what it saves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from recipes import denoiser, glyphs, pixels
from sfumato.bases import load_base


def test_every_character_is_a_class_of_its_own_name_and_the_last_row_is_none():
    names = pixels.class_names()
    assert list(names) == [str(row) for row in range(63)] and names["62"] == ""
    every = [name for text in names.values() for name in text.split(", ") if name]
    assert len(set(every)) == len(every) and set(glyphs.CHARACTERS) <= set(every)
    assert names["7"] == "7, seven, digit seven" and names["10"] == "A, capital a"


def test_an_interrupted_training_ends_as_one_without_a_break(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "KEEP", 2)
    monkeypatch.setattr(pixels, "BATCH", 4)
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    label = np.arange(9)

    def unet():
        torch.manual_seed(1)
        return pixels.make_pixel_unet()

    whole, figures = pixels.train_pixels(unet(), images, label, steps=4)
    assert figures["steps"] == 4 and figures["loss_last_50"] > 0

    def stop(*state):
        denoiser.keep(*state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            pixels.train_pixels(unet(), images, label, steps=4, store=tmp_path / "state")
    again, _ = pixels.train_pixels(unet(), images, label, steps=4, store=tmp_path / "state")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_it_saves_is_a_base_whose_classes_answer_to_their_names(tmp_path):
    pixels.save_pixels(tmp_path / "base", pixels.make_pixel_unet())
    base = load_base(tmp_path / "base")
    assert (base.info.condition, base.info.prediction) == ("class", "v_prediction")
    assert base.latent_shape == (1, 28, 28)
    told = base.condition(["7", "digit seven", "q", "capital q", ""])
    assert torch.equal(told[0], told[1]) and not torch.equal(told[2], told[3])
    names = json.loads((tmp_path / "base" / "model_index.json").read_text())["id2label"]
    assert names == pixels.class_names()
