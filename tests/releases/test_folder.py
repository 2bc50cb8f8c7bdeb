"""What goes into a release and what is refused; a disk that fails leaves nothing."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from sfumato.errors import SfumatoError
from sfumato.releases import (
    finalise,
    folder,
    verify,
    write_draft,
    write_release,
)
from sfumato.releases.formats import check_safetensors

from ..bases.tiny_transformers import stable_diffusion_3_without_t5


def test_images_open_and_carry_nothing_else(finished):
    for path in finished.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.size == (8, 8) and not image.info and not image.getexif()


@pytest.mark.parametrize("table", ["metadata.jsonl", "train/metadata.jsonl"])
def test_loads_with_datasets(kit, tmp_path, monkeypatch, table):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    out = write_release(kit.images(tmp_path / "s", table), tmp_path / "release", **kit.facts())
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 20 and set(data.column_names) == {"image", "label", "prompt", "seed"}
    assert data[3]["image"].size == (8, 8) and data[3]["label"] in kit.classes


def test_parquet_release(kit, tmp_path):
    datasets = pytest.importorskip("datasets")
    source = kit.images(tmp_path / "s")
    shelf = tmp_path / "p"
    (shelf / "data").mkdir(parents=True)
    rows = [json.loads(line) for line in (source / "train/metadata.jsonl").read_text().splitlines()]
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=list(kit.classes)),
        prompt=datasets.Value("string"),
        seed=datasets.Value("int64"),
    )
    for shard in range(2):
        part = rows[shard::2]
        table = datasets.Dataset.from_dict(
            {
                "image": [
                    {"bytes": (source / "train" / r["file_name"]).read_bytes(), "path": None}
                    for r in part
                ],
                "label": [kit.classes.index(r["label"]) for r in part],
                "prompt": [r["prompt"] for r in part],
                "seed": [r["seed"] for r in part],
            },
            features=features,
        )
        table.to_parquet(str(shelf / f"data/train-{shard:05d}-of-00002.parquet"))
    out = write_release(shelf, tmp_path / "release", **kit.facts())
    assert verify(out).ok
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 20 and data.features["label"].names == list(kit.classes)
    (shelf / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(SfumatoError, match="not a whole set"):
        write_release(shelf, tmp_path / "again", **kit.facts())


def test_lora_release(kit, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    source = tmp_path / "s"
    source.mkdir()
    safetensors.save_file(
        {"unet.x.lora.down.weight": np.zeros((2, 2))},
        str(source / "pytorch_lora_weights.safetensors"),
    )
    out = write_release(source, tmp_path / "release", **kit.facts(artefacts="model", settings=None))
    card = (out / "README.md").read_text()
    assert verify(out).ok and "load_lora_weights" in card
    assert '"path/to/the/base", dtype=torch.float32)' in card, (
        "bundled bases are stored in half precision"
    )
    assert not (out / "croissant.json").exists()
    (source / "model.bin").write_bytes(b"x")
    with pytest.raises(SfumatoError, match=r"model.bin is not on the list"):
        write_release(source, tmp_path / "again", **kit.facts(artefacts="model", settings=None))


def test_pipeline_release_forgets_where_it_was_read(kit, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    (tmp_path / "s/model/unet").mkdir(parents=True)
    (tmp_path / "s/model/model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "s/model/unet/config.json").write_text(
        '{"_name_or_path": "/home/alice/scans/base", "sample_size": 4}'
    )
    safetensors.save_file(
        {"w": np.zeros(2)}, str(tmp_path / "s/model/unet/diffusion_pytorch_model.safetensors")
    )
    out = write_release(
        tmp_path / "s", tmp_path / "release", **kit.facts(artefacts="model", settings=None)
    )
    assert (
        json.loads((out / "model/unet/config.json").read_text()) == {"sample_size": 4}
        and verify(out).ok
    )


def test_the_cards_line_opens_a_pipeline_that_was_saved_without_a_part(kit, tmp_path):
    """diffusers opens it only if it is told so."""
    (tmp_path / "s").mkdir()
    stable_diffusion_3_without_t5(tmp_path / "s/model")
    out = write_release(
        tmp_path / "s", tmp_path / "release", **kit.facts(artefacts="model", settings=None)
    )
    card = (out / "README.md").read_text()
    (line,) = (line for line in card.splitlines() if "from_pretrained" in line)
    names = {"torch": torch, "StableDiffusion3Pipeline": diffusers.StableDiffusion3Pipeline}
    exec(line.replace("path/to/this/folder", str(out)), names)
    assert names["pipe"].text_encoder_3 is names["pipe"].tokenizer_3 is None
    assert verify(out).ok


def test_draft_then_finalise_in_place(kit, tmp_path):
    source = kit.images(tmp_path / "release")
    before = write_draft(source, **kit.facts())
    out = finalise(source, title="Cats & dogs <i>", licence="cc-by-4.0")
    assert out == source and verify(out).ok and not (out / "synthesis.json").exists()
    after = json.loads((out / "privacy.json").read_text())
    assert after.pop("artefacts") and after == json.loads(json.dumps(before))
    assert {p.name for p in tmp_path.iterdir()} == {"release"}
    assert "<i>" not in (out / "report.html").read_text()
    with pytest.raises(SfumatoError, match="already a finished release"):
        finalise(source)
    with pytest.raises(SfumatoError, match="no synthesis.json"):
        finalise(kit.images(tmp_path / "bare"))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            lambda top: shutil.copy(top / "train/cat/000000.png", top / "train/cat/000002.png"),
            "not the file that was",
        ),
        (
            lambda top: _edit(top / "train/metadata.jsonl", b'"seed": 3', b'"seed": 4'),
            "not the file that was",
        ),
        (lambda top: _drop(top), "added or removed"),
    ],
)
def test_a_release_holds_the_very_files_that_were_synthesized(kit, tmp_path, change, rule):
    source = kit.images(tmp_path / "s")
    write_draft(source, **kit.facts(settings={**kit.facts()["settings"], "n": None}))
    change(source)
    with pytest.raises(SfumatoError, match=rule):
        finalise(source, tmp_path / "release")
    assert {p.name for p in tmp_path.iterdir()} == {"s"}


def _edit(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def _drop(top):
    table = top / "train/metadata.jsonl"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    (top / "train/cat/000000.png").unlink()


def _tensors(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ONE = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
LORA = json.dumps(
    {"r": 4, "target_modules": ["to_q", "to_out.0"], "bias": "none", "base_model": None}
)
LODA = json.dumps({"rank": 2, "scale": 2.0, "activation": "silu"})


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (
            _tensors(
                {**ONE, "__metadata__": {"format": "pt", "lora_adapter_metadata": LORA}}, bytes(8)
            ),
            None,
        ),
        (_tensors({**ONE, "__metadata__": {"note": "ward 7"}}, bytes(8)), "metadata beside"),
        (_tensors({**ONE, "__metadata__": {"format": "Mr Smith"}}, bytes(8)), "metadata beside"),
        (
            _tensors(
                {**ONE, "__metadata__": {"lora_adapter_metadata": '{"a": "chest scan of Mr S"}'}},
                bytes(8),
            ),
            "module name",
        ),
        (
            _tensors(
                {**ONE, "__metadata__": {"lora_adapter_metadata": '{"a": "/home/x"}'}}, bytes(8)
            ),
            "module name",
        ),
        (_tensors({**ONE, "__metadata__": {"loda": LODA}}, bytes(8)), None),
        (
            _tensors(
                {**ONE, "__metadata__": {"loda": '{"activation": "ward 7, bed 2"}'}}, bytes(8)
            ),
            "module name",
        ),
        (
            _tensors({**ONE, "__metadata__": {"loda": '{"rank": "ward 7", "rank": 2}'}}, bytes(8)),
            "not a safetensors",
        ),
        (_tensors(ONE, bytes(9)), "belong to no tensor"),
        (_tensors({"a": {**ONE["a"], "data_offsets": [1, 9]}}, bytes(9)), "belong to no tensor"),
        (_tensors({**ONE, "b": ONE["a"]}, bytes(8)), "belong to no tensor"),
        (_tensors({"a": {**ONE["a"], "shape": [3]}}, bytes(8)), "belong to no tensor"),
        (_tensors({"a": {**ONE["a"], "dtype": "X9"}}, bytes(8)), "not a safetensors"),
        (b'"\x00\x00\x00\x00\x00\x00\x00{"a":1,"a":2,"b":[1],"c":[2,3,4]}  ', "not a safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors"),
        (b"", "not a safetensors"),
        (_tensors([1], b""), "not a safetensors"),  # type: ignore[arg-type]
    ],
)
def test_only_tensors_leave_in_safetensors(tmp_path, data, rule):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    if rule is None:
        return check_safetensors(path, "x")
    with pytest.raises(SfumatoError, match=rule):
        check_safetensors(path, "x")


@pytest.mark.parametrize(
    ("name", "token", "right"),
    [
        ("learned_embeds-001.safetensors", "<s>", True),
        ("learned_embeds.safetensors", "ward 7, bed 2", False),
        ("learned_embeds.safetensors", "a" * 101, False),
        ("learned_embeds.safetensors", ["<s>"], False),
        ("pytorch_lora_weights.safetensors", "<s>", False),
    ],
)
def test_a_file_of_token_vectors_may_name_its_token_and_nothing_else(tmp_path, name, token, right):
    path = tmp_path / "x.safetensors"
    path.write_bytes(_tensors({**ONE, "__metadata__": {"token": token}}, bytes(8)))
    if right:
        return check_safetensors(path, name)
    with pytest.raises(SfumatoError, match="carries metadata"):
        check_safetensors(path, name)


def test_only_columns_leave_in_parquet(kit, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    png = next((kit.images(tmp_path / "s") / "train").rglob("*.png")).read_bytes()
    good = {
        "image": [{"bytes": png, "path": "000000.png"}],
        "label": ["cat"],
        "prompt": ["a picture of a cat"],
        "seed": [1],
    }

    def made(name, columns=good, metadata=None):
        top = tmp_path / name
        (top / "data").mkdir(parents=True)
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, top / "data/train-00000-of-00001.parquet")
        return top

    arguments = kit.facts(settings={**kit.facts()["settings"], "n": 1})
    assert verify(write_release(made("good"), tmp_path / "release", **arguments)).ok
    for number, (columns, metadata, rule) in enumerate(
        [
            (good, {"note": "ward 7"}, "metadata beside"),
            (good, {"huggingface": '{"info": {"features": {}, "x": 1}}'}, "metadata beside"),
            (
                good,
                {"huggingface": '{"info": {"features": {"label": {"dtype": "Mr Smith"}}}}'},
                "metadata beside",
            ),
            (good, {"huggingface": "["}, "metadata beside"),
            ({**good, "image": [{"bytes": png, "path": "smith.png"}]}, None, "by its number"),
            ({**good, "image": [{"bytes": png, "path": None, "name": "x"}]}, None, "another type"),
            ({**good, "seed": ["ward 7"]}, None, "another type"),
        ]
    ):
        with pytest.raises(SfumatoError, match=rule):
            write_release(
                made(str(number), columns, metadata), tmp_path / f"r{number}", **arguments
            )


def _spoil_text_chunk(top):
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "ward 7")
    Image.new("RGB", (8, 8)).save(top / "train/cat/000000.png", pnginfo=note)


def _spoil_trailer(top):
    with (top / "train/cat/000000.png").open("ab") as stream:
        stream.write(b"more")


def _spoil_time_chunk(top):
    path = top / "train/cat/000000.png"
    body = b"tIME" + bytes(7)
    data = path.read_bytes()
    path.write_bytes(
        data[:33] + struct.pack(">I", 7) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
    )


def _spoil_table(**changes):
    def spoil(top):
        path = top / "train/metadata.jsonl"
        lines = path.read_text().splitlines()
        row = {**json.loads(lines[0]), **changes}
        path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda top: (top / "run.key").write_text("x"), "not on the list"),
        (
            lambda top: (top / "train/cat/scan_ward7.png").write_bytes(
                (top / "train/cat/000000.png").read_bytes()
            ),
            "not on the list",
        ),
        (lambda top: (top / ".hidden").write_text("x"), "not on the list"),
        (lambda top: (top / "train/cat/000002.png").unlink(), "missing or named twice"),
        (
            lambda top: (top / "train/cat/000099.png").write_bytes(
                (top / "train/cat/000000.png").read_bytes()
            ),
            "no line",
        ),
        (
            lambda top: os.symlink(top / "train/cat/000000.png", top / "train/cat/000100.png"),
            "is a link",
        ),
        (lambda top: (top / "train/metadata.jsonl").unlink(), "exactly one metadata.jsonl"),
        (lambda top: shutil.rmtree(top / "train"), "at least one image"),
        (lambda top: (top / "SHA256SUMS").write_text(""), "already a finished release"),
        (_spoil_text_chunk, "carries metadata"),
        (_spoil_time_chunk, "carries metadata"),
        (_spoil_trailer, "after its end"),
        (_spoil_table(prompt="chest scan of Mr Smith"), "private caption"),
        (_spoil_table(label="dog"), "two labels"),
        (_spoil_table(label="bird"), "public class of the plan"),
        (_spoil_table(loss=0.3), "column beside"),
        (_spoil_table(file_name="../../outside.png"), "missing or named twice"),
    ],
)
def test_a_source_with_anything_else_is_refused(kit, tmp_path, spoil, rule):
    source = kit.images(tmp_path / "s")
    spoil(source)
    with pytest.raises(SfumatoError, match=rule):
        write_release(source, tmp_path / "release", **kit.facts())
    assert {p.name for p in tmp_path.iterdir()} == {"s"}


@pytest.mark.parametrize(
    "name", ["evaluation/utility.json", "utility.json", "train/cat/utility.json"]
)
def test_internal_evaluations_have_no_place_in_a_release(kit, tmp_path, name):
    """Scores against private data are no part of what epsilon covers."""
    source = kit.images(tmp_path / "s")
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text('{"accuracy": 0.9}')
    with pytest.raises(SfumatoError, match="not on the list"):
        write_release(source, tmp_path / "release", **kit.facts())
    assert not (tmp_path / "release").exists()


class FullDisk:
    """Lets `left` writes and renames through, then fails as a full disk does."""

    def __init__(self, monkeypatch, left: int):
        self.left = left
        for name in ("write", "copy"):
            monkeypatch.setattr(folder, name, self.count(getattr(folder, name)))
        monkeypatch.setattr(os, "rename", self.count(os.rename, once=True))

    def count(self, call, once: bool = False):
        def wrapped(*args):
            self.left -= 1
            if self.left == -1 or (self.left < 0 and not once):
                raise OSError(28, "No space left on device")
            return call(*args)

        return wrapped


@pytest.mark.parametrize("in_place", [False, True])
def test_a_failing_disk_leaves_no_release_and_the_draft_whole(kit, tmp_path, monkeypatch, in_place):
    source = kit.images(tmp_path / "s", n=4)
    arguments = kit.facts(settings=None)
    claim = kit.certificate(arguments)
    monkeypatch.setattr(folder, "build_privacy_json", lambda *a, **k: claim)
    monkeypatch.setattr(folder.verify_privacy, "check_privacy", lambda facts: [])
    monkeypatch.setattr("sfumato.releases.consistency.check_facts", lambda facts: [])
    whole = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    out = source if in_place else tmp_path / "release"
    for k in range(50):
        with monkeypatch.context() as patch:
            FullDisk(patch, k)
            try:
                write_release(source, out, **arguments)
                break
            except SfumatoError as error:
                assert "half-written" in str(error)
        assert {p.name for p in tmp_path.iterdir()} == {"s"}
        assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == whole
    assert k == 14 + in_place and (out / "SHA256SUMS").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"s", out.name}


def test_a_licence_is_a_word(kit, tmp_path):
    source = kit.images(tmp_path / "draft")
    write_draft(source, **kit.facts())
    with pytest.raises(SfumatoError, match="--licence is empty"):
        finalise(source, licence=" ")


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_pictures_of_the_public_base_stand_beside_those_of_the_same_seeds(kit, tmp_path):
    source = kit.images(tmp_path / "release")
    row = {0: png(1), 3: png(2)}
    write_draft(source, **kit.facts(), base_pictures=row)
    out = finalise(source)
    page = (out / "report.html").read_text()
    (shown,) = re.findall(r"<h2>Beside the public base</h2>.*?</section>", page, re.DOTALL)
    own, base = re.findall(r"<figure>.*?</figure>", shown, re.DOTALL)
    seeds = [
        f"a picture of a {label}\u201d, seed {seed}" for label, seed in (("cat", 0), ("dog", 3))
    ]
    for figure in (own, base):
        assert figure.count("<img") == 2 and all(text in figure for text in seeds)
    assert "train/cat/000000.png" in own and "href" not in base and "public base" in base
    assert verify(out).ok and not list(out.rglob("base*"))


@pytest.mark.parametrize(
    "row", [{7000: png(1)}, {0: b"no picture"}, {i: png(1) for i in range(11)}]
)
def test_no_other_picture_stands_there(kit, tmp_path, row):
    source = kit.images(tmp_path / "release")
    with pytest.raises(SfumatoError, match="is not a PNG|pictures of the public base in the draft"):
        write_draft(source, **kit.facts(), base_pictures=row)
        finalise(source)
    assert not (source / "report.html").exists()
