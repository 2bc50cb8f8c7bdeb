"""Runs on captions, in buckets, through the command line: every family that is told texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.bases import load_base, open_adapted
from sfumato.cli import main
from sfumato.options import Sampling
from sfumato.privacy import accounting
from sfumato.synthesis.sampler import image_seed
from sfumato.training import open_latents
from tests.bases.family_checks import Start, adapt, pipeline, refused
from tests.bases.text_families import EACH, TEXT

QUICK = ("flux",)
STEPS, GUIDANCE = 2, 2.0
TOLD = ["a ring", "small letter x", "seven", "cross"]


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, wide and high, with a table of captions: none, one, two, or an odd one."""
    root = tmp_path_factory.mktemp("captioned")
    rows = [("file_name", "label", "text")]
    for i in range(12):
        size = (20, 38, 3) if i % 2 else (38, 20, 3)
        noise = np.random.default_rng(i).integers(0, 255, size, np.uint8)
        Image.fromarray(noise).save(root / f"{i}.png")
        text = ("", "a cross", "one\ntwo", "\u5c0f {0} " * 900)[i % 4]
        rows.append((f"{i}.png", ("circle", "cross")[i % 2], text))
    with open(root / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
    monkeypatch.setattr(accounting, "PLANNING_GRID", 1e-2)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow, id=n) for n in EACH]
)
def test_captions_train_in_buckets_and_prompts_draw_as_in_the_pipeline(
    name: str, folder_of: Callable[[str], Path], captioned: Path, tmp_path: Path
) -> None:
    family, folder, run = TEXT[name], folder_of(name), tmp_path / "run"
    buckets = ["64x32", "32x64"] if name == "sana" else ["32x16", "16x32"]
    method = "lora" if family.adapters else "attention"
    done = adapt(
        folder, captioned, run, method, "--captions", "text", "--classes", "circle,cross",
        "--buckets", ",".join(buckets), "--caption-dropout", "0.2", "--noise-draws", "2",
    )  # fmt: skip
    data = open_latents(run / "cache")
    assert data.texts is not None
    assert sorted(np.diff(data.texts.first).tolist()) == sorted([0, 1, 2, 1] * 3)
    assert data.buckets is not None and np.bincount(data.buckets.image).tolist() == [6, 6]
    prompts, out = tmp_path / "prompts.csv", tmp_path / "out"
    prompts.write_text("\n".join(["prompt", *TOLD]))
    assert main(
        [
            "synthesize", str(run), "-o", str(out), "--prompts", str(prompts), "--steps",
            str(STEPS), "--guidance-scale", str(GUIDANCE), "--no-controls",
        ]
    ) == 0  # fmt: skip
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    base = open_adapted(done.model, lambda: load_base(folder))
    whole = (done.model / "model_index.json").exists()
    pipe = pipeline(done.model if whole else folder)
    if not whole:
        pipe.load_lora_weights(done.model)
    settings = json.loads((out / "synthesis.json").read_text())["certificate"]["synthesis"]
    pairs = [bucket.split("x") for bucket in buckets]
    sizes = [(int(width), int(height)) for width, height in pairs]
    base.use_buckets(sizes)
    for row in rows:
        number = int(Path(row["file_name"]).stem)
        one = base.at(sizes[number % 2])
        pipe.scheduler = one.sampler(settings["scheduler"], STEPS)
        theirs = drawn(pipe, family.draw, one, row["prompt"], Sampling().seed, number)
        picture = np.asarray(Image.open(out / row["file_name"]).convert("RGB"))
        assert picture.shape[1::-1] == sizes[number % 2] and picture.std() > 3
        assert np.abs(picture - 255.0 * theirs).max() <= 1.5


def drawn(pipe: Any, draw: Any, base: Any, prompt: str, seed: int, number: int) -> np.ndarray:
    """A picture of diffusers' own pipeline from the latents of a public seed."""
    fresh, generator = (torch.Generator().manual_seed(image_seed(seed, number)) for _ in range(2))
    latents = torch.randn(base.latent_shape, generator=generator)[None]
    with torch.no_grad():
        return draw(pipe, Start([prompt], latents, [generator], [fresh], STEPS, GUIDANCE))[0]


@pytest.mark.parametrize("name", ["dit", "ddpm", "ldm_classes"])
def test_captions_are_refused_where_no_text_is_read(
    name: str, folder_of: Callable[[str], Path], captioned: Path, tmp_path: Path, capsys: Any
) -> None:
    said = refused(
        folder_of(name), captioned, tmp_path / "run", "--method", "attention", "--captions", "text",
        capsys=capsys,
    )  # fmt: skip
    assert said.startswith("11: ") and "reads no texts" in said and "--condition classes" in said
