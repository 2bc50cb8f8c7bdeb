"""A run on captions end to end, and pictures of a file of prompts with their release."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.methods import Lora
from sfumato.releases.consistency import check_facts
from sfumato.releases.verify_privacy import load
from sfumato.training import open_latents

PROMPTS = "prompt,label,count\na ring,circle,2\nsmall letter x,,3\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("captioned")


@pytest.fixture(scope="module")
def run(place, tiny_base):
    rows = [("file_name", "label", "text")]
    (place / "images").mkdir()
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(place / "images" / f"{i}.png")
        text = ("", f"zqwx{i}", f"zqwx{i}\na cross", "digit seven " * 999)[i % 4]
        rows.append((f"{i}.png", ("circle", "cross")[i % 2], text))
    with open(place / "images" / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    (place / "prompts.csv").write_text(PROMPTS)
    return verbs.adapt(
        place / "images",
        output=place / "run",
        ledger=place / "book" / "ledger.sqlite",
        base=str(tiny_base),
        method=Lora(rank=2),
        classes=["circle", "cross"],
        caption_column="text",
        prompts_file=str(place / "prompts.csv"),
        epsilon=4.0,
        delta=1e-2,
        anyway=True,
        steps=2,
        expected_batch_size=6,
        caption_dropout=0.2,
        micro_batch=4,
        precision="float32",
    )


def certificate(folder):
    return json.loads((folder / "synthesis.json").read_text())["certificate"]


def test_the_run_has_read_every_caption(run, place):
    texts = open_latents(run.folder / "cache").texts
    assert texts is not None and np.diff(texts.first).sum() == 3 * (0 + 1 + 2 + 1)
    assert run.plan.captions


def test_pictures_of_a_file_that_the_plan_names(run, place):
    out = verbs.synthesize(run, None, place / "out", prompts=place / "prompts.csv", steps=1)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    drawn = sorted((row["prompt"], row["label"]) for row in rows)
    assert drawn == [("a ring", "circle")] * 2 + [("small letter x", "unlabelled")] * 3
    said = certificate(out)
    assert said["synthesis"]["prompts_file"]["written"] == "before training"
    assert said["public_facts"]["prompts_file"] == run.plan.prompts_file
    verbs.release(out)
    assert verbs.verify(out).ok
    page = (out / "PRIVACY.md").read_text()
    assert "| Captions trained | yes |" in page and "before training" in page
    facts = load(out)
    told = {**facts["public_facts"], "prompts_file": "0" * 64}
    checks = {name: ok for name, ok, _ in check_facts({**facts, "public_facts": told})}
    assert checks["captions"] and not checks["prompts"]
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"zqwx" not in everything and b"digit seven" not in everything


def test_a_file_that_the_plan_does_not_name_was_written_later(run, place):
    (place / "later.jsonl").write_text('{"prompt": "a cross x", "label": "cross"}\n')
    out = verbs.synthesize(run, 4, place / "later", prompts=place / "later.jsonl", steps=1)
    said = certificate(out)["synthesis"]
    assert said["prompts_file"]["written"] == "after training" and said["n"] == 4
    assert "is not covered" in said["prompts_file"]["statement"]
    verbs.release(out)
    assert verbs.verify(out).ok


def test_a_caption_as_a_later_prompt_asks_nobody(run, place):
    """It would tell whoever writes prompts which of them are private captions."""
    (place / "guess.csv").write_text("prompt,label\nzqwx1,cross\n")
    (place / "other.csv").write_text("prompt,label\nzqwx2x,cross\n")
    said = []
    for name in ("guess", "other"):
        out = verbs.synthesize(run, None, place / name, prompts=place / f"{name}.csv", steps=1)
        found = certificate(out)
        del found["synthesis"]["prompts"], found["synthesis"]["prompts_file"]["sha256"]
        said.append({k: v for k, v in found.items() if k != "ledger"})
    assert said[0] == said[1]


def test_without_a_file_the_prompts_of_classes_are_drawn(run, place):
    out = verbs.synthesize(run, 2, place / "plain", steps=1)
    assert "prompts_file" not in certificate(out)["synthesis"]


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("prompt,label\na,ring\n", [], "its label is no class"),
        (PROMPTS, ["--class-shares", "circle=.5,cross=.5"], "leave --class-shares out"),
        (None, [], "-n is required without --prompts"),
    ],
)
def test_the_command_line_refuses_before_anything_is_drawn(
    run, place, tmp_path, capsys, content, more, said
):
    file = tmp_path / "prompts.csv"
    asked = []
    if content is not None:
        file.write_text(content)
        asked = ["--prompts", str(file)]
    words = ["synthesize", str(run.folder), "-o", str(tmp_path / "out"), *asked, *more]
    assert main(words) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_another_caption_is_another_data_set_to_a_resume(run, place):
    other = place / "images" / "metadata.csv"
    text = other.read_text()
    other.write_text(text.replace("zqwx1\n", "zqwx1 more\n"))
    try:
        with pytest.raises(SfumatoError, match="not those of the run|already|finished"):
            verbs.adapt(place / "images", output=run.folder, resume=True, caption_column="text")
    finally:
        other.write_text(text)
    assert replace(run.plan) == run.plan
