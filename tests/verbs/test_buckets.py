"""Pictures of several shapes: trained by bucket, drawn in all sizes, released and verified."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfumato import SfumatoError, verbs
from sfumato.options import Performance, Recipe, Sampling
from sfumato.runs.folder import Run
from sfumato.training import open_latents
from sfumato.verbs.drawing import draw_as_released

BUCKETS = ("16x16", "16x32", "32x16")


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    """Two classes of six pictures: square, tall and wide, each with a mark of its own."""
    root = tmp_path_factory.mktemp("shaped")
    for number, name in enumerate(("circle", "cross")):
        (root / name).mkdir()
        for i in range(6):
            width, height = ((20, 20), (20, 38), (38, 20))[i % 3]
            pixels = np.full((height, width, 3), 255, np.uint8)
            pixels[: height // 2, : width // 2] = (20 * i, 90 * number, 7)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def settings(tiny_base):
    return {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "expected_batch_size": 8,
        "steps": 2,
        "noise_draws": 2,
        "performance": Performance(checkpoint_steps=2, precision="float32", samples_every=0),
        "recipe": Recipe(buckets=BUCKETS),
        "anyway": True,
        "yes_public": True,
    }


def test_from_shapes_to_a_verified_release(tiny_base, shaped, tmp_path):
    run = verbs.adapt(shaped, output=tmp_path / "run", method="lora", **settings(tiny_base))
    opened = Run.open(run.folder)
    data = open_latents(run.folder / "cache")
    assert data.buckets is not None and np.bincount(data.buckets.image).tolist() == [4, 4, 4]
    assert opened.options["recipe"]["buckets"] == list(BUCKETS)
    draft = verbs.synthesize(run, 7, tmp_path / "draft", sampling=Sampling(steps=1), keep_key=True)
    found = {p.name: Image.open(p).size for p in (draft / "train").rglob("*.png")}
    shapes = [(16, 16), (16, 32), (32, 16)]
    assert found == {f"{i:06d}.png": shapes[i % 3] for i in range(7)}
    # a score looks at the first size alone
    assert draw_as_released(run, 2, Sampling(steps=1))[0].shape == (2, 16, 16, 3)
    assert '"16x32"' in (draft / "synthesis.json").read_text()
    release = verbs.release(draft)
    assert verbs.verify(release).ok
    assert "16x32" in (release / "README.md").read_text()


def test_sizes_that_do_not_fit_are_refused_before_the_charge(tiny_base, shaped, tmp_path):
    asked = settings(tiny_base)
    for buckets, reason in (
        (("17x16",), "--buckets 17x16: this base takes multiples of"),
        (("16x16", "16x16"), "each once"),
        (("0x16",), "write WIDTHxHEIGHT"),
    ):
        with pytest.raises(SfumatoError, match=reason):
            verbs.adapt(
                shaped, output=tmp_path / "run", method="lora",
                **asked | {"recipe": Recipe(buckets=buckets)},
            )  # fmt: skip
    with pytest.raises(SfumatoError, match="--method inversion looks at squares"):
        verbs.adapt(shaped, output=tmp_path / "run", method="inversion", **asked)
    assert not (tmp_path / "run").exists()
