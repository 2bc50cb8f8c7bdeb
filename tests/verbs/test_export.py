"""What `export` draws beside a model: pictures of it and of its public base."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sfumato import Lora, Performance, Sampling, verbs
from sfumato.cli.synthesize import _what as said_of
from sfumato.errors import SfumatoError
from sfumato.methods import Attention, Embedding, Loda
from sfumato.releases import finalise
from sfumato.runs.folder import Run
from sfumato.synthesis.sampler import image_seed, pictures
from sfumato.verbs.facts import adapted_base, public_base

from ..pasted import draw_as_pasted, pixels

TRUSTED_GRADIENTS = True

EXPORT = import_module("sfumato.verbs.export")
METHODS = {
    "lora": Lora(rank=2, alpha=8.0),
    "attention": Attention(),
    "loda": Loda(rank=2, alpha=8.0, activation="silu"),
    "embedding": Embedding(),
}


@pytest.fixture(scope="module")
def run(tiny_images, tiny_base, tmp_path_factory):
    top = tmp_path_factory.mktemp("runs")
    base = shutil.copytree(tiny_base, top / "base")
    return verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=top / "run",
        ledger=top / "ledger.sqlite",
        epsilon=8.0,
        delta=1e-2,
        base=str(base),
        method=Lora(rank=2),
        expected_batch_size=12,
        steps=3,
        noise_draws=1,
        performance=Performance(micro_batch=12, precision="float32"),
    )


@pytest.fixture(scope="module")
def made(run):
    said: list[str] = []
    out = verbs.export(run, run.folder.parent / "out", keep_key=True, progress=said.append)
    return out, said


@pytest.fixture
def draft(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "draft"))


def test_the_same_prompts_and_seeds_are_drawn_by_the_model_and_by_its_base(run, made):
    out, said = made
    rows = [json.loads(line) for line in (out / "samples/metadata.jsonl").open()]
    names = [f"{row}-{i:03d}.png" for row in ("adapted", "base") for i in range(6)]
    assert [row["file_name"] for row in rows] == names
    assert [row["prompt"] for row in rows] == [*run.plan.prompts * 2] * 2
    assert [row["seed"] for row in rows] == [image_seed(0, i) for i in range(6)] * 2
    how = {"scheduler": "DPMSolverMultistepScheduler", "steps": 10, "guidance": 1.0}
    assert all({name: row[name] for name in row if name in how} == how for row in rows)
    labels = np.arange(6) % 3
    for row, base in (("adapted", adapted_base(run)), ("base", public_base(run))):
        drawn = [
            image
            for _, part in pictures(base, run.plan.prompts, labels, np.arange(6), Sampling())
            for image in part
        ]
        for i, image in enumerate(drawn):
            close = np.abs(pixels(out / f"samples/{row}-{i:03d}.png").astype(int) - image)
            assert close.max() <= 2  # another size of piece rounds otherwise
    assert not np.array_equal(*(pixels(out / f"samples/{r}-000.png") for r in ("adapted", "base")))
    assert said[-1] == "drawing samples of the public base: 6 of at most 6"


def test_a_second_export_draws_the_same_bytes(run, made, tmp_path):
    again = verbs.export(run, tmp_path / "again", keep_key=True)
    for path in (made[0] / "samples").iterdir():
        assert path.read_bytes() == (again / "samples" / path.name).read_bytes()


def test_no_further_picture_is_begun_when_time_is_over(run, tmp_path, monkeypatch):
    monkeypatch.setattr(EXPORT, "SECONDS", 0.0)
    out = verbs.export(run, tmp_path / "out", keep_key=True)
    assert len(list((out / "samples").glob("*.png"))) == 2 * 2
    assert verbs.verify(verbs.release(out)).ok


def test_samples_are_left_out_on_request(run, tmp_path):
    out = verbs.export(run, tmp_path / "out", keep_key=True, samples=False)
    assert not (out / "samples").exists()
    release = verbs.release(out)
    assert verbs.verify(release).ok and "<h2>Samples" not in (release / "report.html").read_text()
    card = (release / "README.md").read_text()
    assert "## Samples" not in card and "draws " not in card.split("```")[1]
    assert 'pipe = StableDiffusionPipeline.from_pretrained("path/to/the/base"' in card


def test_a_pipeline_that_no_base_has_is_not_written_on_a_card(run, tmp_path):
    out = verbs.export(run, tmp_path / "out", keep_key=True, samples=False)
    draft = json.loads((out / "synthesis.json").read_text())
    assert draft["pipeline"] == "StableDiffusionPipeline"
    (out / "synthesis.json").write_text(json.dumps(draft | {"pipeline": "os.system"}))
    with pytest.raises(SfumatoError, match="synthesis.json cannot be read"):
        finalise(out)


def test_report_and_card_show_them(draft):
    release = verbs.release(draft)
    assert verbs.verify(release).ok
    page = (release / "report.html").read_text()
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    alts = [image.get("alt") for image in root.iter("img")]
    assert len(alts) == 12 and len(page) < 150_000
    assert alts[0].startswith("picture 1 of 6, drawn by the adapted model, prompt \u201c")
    assert alts[6].startswith("picture 1 of 6, drawn by the public base alone, prompt \u201c")
    card = (release / "README.md").read_text()
    shown = re.findall(r'<img src="([^"]*)" width="160" alt="[^"]{20,}"/>', card)
    assert len(shown) == 8 and all((release / name).is_file() for name in shown)
    hashes = (release / "SHA256SUMS").read_text()
    assert all(f"  samples/adapted-{i:03d}.png\n" in hashes for i in range(6))
    (release / "samples/adapted-000.png").write_bytes(
        (release / "samples/adapted-001.png").read_bytes()
    )
    assert not verbs.verify(release).ok


def without_settings(folder: Path) -> None:
    """The table as exports of earlier versions have it."""
    table = folder / "samples/metadata.jsonl"
    rows = [json.loads(line) for line in table.open()]
    kept = [{name: row[name] for name in ("file_name", "prompt", "seed")} for row in rows]
    table.write_text("".join(json.dumps(row) + "\n" for row in kept))
    forget(folder, "samples/metadata.jsonl")


def test_an_export_of_before_is_released_without_its_settings(draft):
    without_settings(draft)
    finalise(draft)
    assert verbs.verify(draft).ok
    assert "num_inference_steps=20).images[0]" in (draft / "README.md").read_text()


@pytest.mark.parametrize("method", ["lora", "attention", "loda", "embedding"])
def test_the_cards_lines_draw_a_sample_again(run, tiny_images, tmp_path, monkeypatch, method):
    """Of a LoRA, of a whole pipeline, of branches that are no change of weights, of tokens."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        ledger=tmp_path / "ledger.sqlite",
        epsilon=8.0,
        delta=1e-2,
        base=run.plan.base,
        method=METHODS[method],
        expected_batch_size=12,
        steps=3,
        noise_draws=1,
        performance=Performance(micro_batch=12, precision="float32"),
    )
    out = verbs.release(verbs.export(made, tmp_path / "out"))
    called = {"attention": "the adapted model, a whole pipeline", "embedding": "the token"}
    assert said_of(out) == called.get(method, "the adapters")
    name, drawn = draw_as_pasted(out, Path(run.plan.base), tmp_path)
    assert name == "samples/adapted-000.png"
    apart = np.abs(drawn - pixels(out / name))
    assert apart.mean() < 1.0 and apart.max() <= 8
    other = np.abs(drawn - pixels(out / "samples/adapted-001.png"))
    assert other.mean() > 5 * max(apart.mean(), 0.2)


def _line(number: int, **changes):
    def spoil(folder: Path) -> None:
        table = folder / "samples/metadata.jsonl"
        rows = [json.loads(line) for line in table.open()]
        rows[number] |= changes
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        forget(folder, "samples/metadata.jsonl")

    return spoil


def _every(**changes):
    def spoil(folder: Path) -> None:
        for number in range(12):
            _line(number, **changes)(folder)

    return spoil


def forget(folder: Path, name: str) -> None:
    """The draft knows the file as it is now: what is tried is the rule for its content."""
    draft = json.loads((folder / "synthesis.json").read_text())
    if (folder / name).exists():
        draft["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    else:
        draft["files"].pop(name)
    (folder / "synthesis.json").write_text(json.dumps(draft))


def _text_in(folder: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "scan 17")
    path = folder / "samples/base-000.png"
    Image.open(path).copy().save(path, pnginfo=info)
    forget(folder, "samples/base-000.png")


def _without(name: str):
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        forget(folder, name)

    return spoil


def _more(name: str):
    def spoil(folder: Path) -> None:
        shutil.copy(folder / "samples/base-000.png", folder / name)
        forget(folder, name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_line(0, prompt="a scan of Jane Doe"), "not a public prompt"),
        (_line(0, label="circle"), "export again"),
        (_line(0, seed=True), "export again"),
        (_line(0, steps=11), "export again"),  # not as all the others
        (_line(0, scheduler="os; import secrets"), "export again"),
        pytest.param(_every(scheduler="os; import secrets"), "export again", id="a line of code"),
        pytest.param(_every(label="a scan of Jane Doe"), "export again", id="one column more"),
        pytest.param(_every(scheduler="JaneDoeScheduler"), "export again", id="no sampler"),
        pytest.param(_every(pipeline="os; import secrets"), "export again", id="code again"),
        pytest.param(_every(pipeline="JaneDoePipeline"), "export again", id="no pipeline"),
        (_line(0, pipeline="DiTPipeline"), "export again"),
        (_every(steps="10"), "export again"),
        (_every(steps=19840229), "export again"),
        (_every(guidance=float("inf")), "export again"),
        (_line(0, file_name="../secret.png"), "export again"),
        (_line(0, file_name="adapted-001.png"), "export again"),
        (_text_in, "carries metadata"),
        (_without("samples/metadata.jsonl"), "export again"),
        (_without("samples/base-005.png"), "export again"),
        (_more("samples/base-006.png"), "export again"),
        (_more("samples/private-000.png"), "not on the list"),
    ],
)
def test_other_pictures_and_words_are_refused(draft, spoil, rule):
    spoil(draft)
    with pytest.raises(SfumatoError, match=rule):
        finalise(draft)  # the ledger's own comparison would refuse it first
    assert not (draft / "SHA256SUMS").exists()


def test_a_base_that_is_gone_is_named_with_the_cure(run, tmp_path):
    base = Path(run.plan.base)
    base.rename(base.with_name("elsewhere"))
    try:
        with pytest.raises(SfumatoError, match="--no-samples") as told:
            verbs.export(run, tmp_path / "out", keep_key=True)
        assert len(str(told.value).splitlines()) == 1
        assert not list(tmp_path.iterdir())
        assert verbs.export(run, tmp_path / "out", keep_key=True, samples=False).is_dir()
    finally:
        base.with_name("elsewhere").rename(base)


def test_the_ledger_knows_of_the_export_before_a_picture_is_drawn(run, tmp_path, monkeypatch):
    seen = []

    def die(*_, **__):
        seen.append([row.kind for row in Run.open(run.folder, run.ledger_path).ledger.rows][-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(EXPORT, "few_pictures", die)
    with pytest.raises(KeyboardInterrupt):
        verbs.export(run, tmp_path / "out", keep_key=True)
    assert seen == ["RELEASE"] and not list(tmp_path.iterdir())


def test_a_sampler_that_gives_no_picture_is_replaced_by_the_bases_own(run, tmp_path, monkeypatch):
    whole = EXPORT.few_pictures

    def fails(base, prompts, labels, indices, sampling, *more):
        if sampling == Sampling():
            raise SfumatoError("not finite")
        return whole(base, prompts, labels, indices, sampling, *more)

    monkeypatch.setattr(EXPORT, "few_pictures", fails)
    out = verbs.export(run, tmp_path / "out", keep_key=True)
    assert len(list((out / "samples").glob("*.png"))) == 12


@pytest.mark.parametrize("state", ["draft", "released"])
@pytest.mark.parametrize("option", ["public_data", "stand_in"])
def test_the_samples_of_a_model_are_no_public_images(run, draft, tiny_images, state, option):
    if state == "released":
        draft = finalise(draft)
    with pytest.raises(SfumatoError, match=r"is an adapted model, whose few pictures are samples"):
        verbs.plan(
            tiny_images,
            epsilon=8.0,
            delta=1e-2,
            base=str(run.folder.parent / "base"),
            ledger=run.folder.parent / "another.sqlite",
            method="lora",
            **{option: draft},
            **({"adapter_init": "public"} if option == "public_data" else {}),
        )


@pytest.fixture(scope="module")
def drawn(run):
    return verbs.synthesize(run, 9, run.folder.parent / "drawn", keep_key=True)


def test_a_report_of_images_shows_its_first_ones_as_the_public_base_draws_them(
    run, drawn, tmp_path
):
    row = json.loads((drawn / "synthesis.json").read_text())["base_pictures"]
    assert list(row) == [str(image_seed(0, i)) for i in range(6)]
    labels, base = np.arange(9) % 3, public_base(run)
    alone = [
        image
        for _, part in pictures(base, run.plan.prompts, labels, np.arange(6), Sampling())
        for image in part
    ]
    table = [json.loads(line) for line in (drawn / "metadata.jsonl").open()]
    for image, own, text in zip(alone, table, row.values()):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert np.abs(shown.astype(int) - image).max() <= 2
        assert not np.array_equal(shown, pixels(drawn / own["file_name"]))
    out = verbs.release(drawn, tmp_path / "out", ledger=run.ledger_path)
    page = (out / "report.html").read_text()
    shown = page[page.index("Beside the public base") :]
    shown = shown[: shown.index("</section>")]
    assert shown.count("<img") == 12 and all(f"seed {seed}" in shown for seed in row)
    assert "base_pictures" not in (out / "privacy.json").read_text() and verbs.verify(out).ok


def test_a_shard_shows_its_own_and_the_row_may_be_left_out(run, tmp_path):
    out = verbs.synthesize(run, 7, tmp_path / "part", shard=(1, 2), keep_key=True)
    row = json.loads((out / "synthesis.json").read_text())["base_pictures"]
    assert list(row) == [str(image_seed(0, i)) for i in (1, 3, 5)]
    out = verbs.synthesize(run, 2, tmp_path / "plain", controls=False, keep_key=True)
    assert "base_pictures" not in json.loads((out / "synthesis.json").read_text())


def test_without_the_public_base_a_whole_model_still_draws(run, tmp_path, monkeypatch):
    def gone(run):
        raise SfumatoError("no base")

    monkeypatch.setattr(import_module("sfumato.verbs.synthesize"), "public_base", gone)
    out = verbs.synthesize(run, 2, tmp_path / "out", keep_key=True)
    assert "base_pictures" not in json.loads((out / "synthesis.json").read_text())
