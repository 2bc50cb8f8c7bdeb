"""Control tokens: the anchor, noise of the claimed size from a public key, the exact mean by class,
and their figures and pictures.
"""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato.bases import load_base, load_embeds, save_embeds
from sfumato.methods.inversion import controls
from sfumato.methods.inversion.geometry import Geometry
from sfumato.options import Sampling
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.releases.marking import KEYWORD


def geometry(p=8, classes=1, width=16):
    return Geometry(torch.full((classes, width), 0.5), torch.eye(width)[:, :p], 2.0, 1)


def rule(blocks=1, p=8, shrink=False, n=40.0):
    return Aggregation("clip", blocks, p, 1, "vocabulary", shrink, (n,) * blocks)


def test_noise_alone_has_the_law_of_the_noise_on_the_released_token():
    place = geometry(p=64, classes=60, width=64)
    found = controls.public_tokens(rule(60, 64), place, 2.0, 3.0)
    assert torch.equal(found["anchor"].flatten(1), place.anchor)
    noise = place.coordinates(found["noise-only"], torch.arange(60)).numpy()
    # sigma * C / divisor; 3,840 draws, so the measured deviation is within 5 % (4 of its own
    # deviations).
    assert np.std(noise) == pytest.approx(3.0 * 2.0 / 40, rel=0.05) and abs(noise.mean()) < 0.01
    assert len(np.unique(noise)) > 3800
    again = controls.public_tokens(rule(60, 64), place, 2.0, 3.0)
    assert torch.equal(again["noise-only"], found["noise-only"])
    calm = controls.public_tokens(rule(60, 64, shrink=True), place, 2.0, 3.0)["noise-only"].flatten(
        1
    )
    # it is cleaned up as the released token is
    assert (calm - place.anchor).norm() < 0.5 * np.linalg.norm(noise)


def test_exact_tokens_are_the_mean_and_the_first_image_of_each_class():
    place, label = geometry(classes=3), np.array([1, 0, 1, -1, 0])
    u = np.arange(5 * place.anchor.shape[1], dtype=np.float32).reshape(5, -1)
    found = {
        name: v.flatten(1).numpy() for name, v in controls.exact_tokens(place, u, label, 3).items()
    }
    nobody = place.anchor[2].numpy()
    assert list(found) == list(controls.EXACT)
    assert np.allclose(found["non-private"], [u[[1, 4]].mean(0), u[[0, 2]].mean(0), nobody])
    assert np.allclose(found["one-image"], [u[1], u[0], nobody])


def test_only_exact_tokens_are_marked(tmp_path):
    tokens = {name: torch.zeros(1, 1, 16) for name in ("anchor", "noise-only", *controls.EXACT)}
    controls.save_tokens(tmp_path, ["<artwork>"], tokens)
    marked = {path.parent.name for path in tmp_path.rglob("PRIVATE")}
    assert (
        marked == set(controls.EXACT)
        and "No epsilon" in (tmp_path / "non-private" / "PRIVATE").read_text()
    )
    assert all(list(load_file(path)) == ["<artwork>"] for path in tmp_path.rglob("*.safetensors"))


def test_distances_are_means_over_classes_in_radii():
    place = geometry(classes=2)
    moved = place.anchor.clone()
    moved[0, 0] += 4.0
    found = controls.distances(place, {"anchor": place.anchor[:, None], "moved": moved[:, None]})
    assert found["anchor"] == pytest.approx({"from_anchor": 0.0, "cosine_with_anchor": 1.0})
    assert (
        found["moved"]["from_anchor"] == pytest.approx(1.0)
        and found["moved"]["cosine_with_anchor"] < 1
    )
    zero = torch.zeros(2, 16, dtype=torch.float64)
    assert controls.cosine(zero, zero) == 0 and controls.cosine(
        moved.double(), -moved.double()
    ) == pytest.approx(-1)


@pytest.mark.parametrize("vectors", [1, 2])
def test_each_token_draws_what_it_would_draw_alone(tiny_base, tmp_path, vectors):
    rng = torch.Generator().manual_seed(0)
    tokens = {name: torch.randn(1, vectors, 16, generator=rng) for name in ("released", "anchor")}
    sampling, labels, few = Sampling(steps=2), np.zeros(5, np.int64), np.array([1, 4])
    base = load_base(tiny_base)
    save_embeds(tmp_path / "first", {"<s>": tokens["released"][0]})
    load_embeds(base, tmp_path / "first")
    together = controls.draw_beside(base, ["<s>"], tokens, ["a <s> circle"], labels, few, sampling)
    for name, vector in tokens.items():
        alone = load_base(tiny_base)
        save_embeds(tmp_path / name, {"<s>": vector[0]})
        load_embeds(alone, tmp_path / name)
        again = controls.draw_beside(
            alone, ["<s>"], {name: vector}, ["a <s> circle"], labels, few, sampling
        )
        assert together[name] == again[name] and len(together[name]) == 2
    assert together["released"] != together["anchor"]
    picture = Image.open(io.BytesIO(base64.b64decode(together["anchor"][0])))
    assert picture.size == (16, 16) and set(picture.info) == {KEYWORD, "xmp"}, "the mark alone"
