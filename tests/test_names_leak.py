"""Twenty ways in which a name lies in a user's files; none reaches a release without a yes."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato import verbs
from sfumato.errors import DataError
from sfumato.runs import budget

TRUSTED_GRADIENTS = True

EACH = 6  # images of a class: more than few


def picture(i: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8))


def class_folders(*names):
    def write(root: Path) -> Path:
        for k, name in enumerate((*names, "circle", "cross")):
            (root / name).mkdir(parents=True)
            for i in range(EACH):
                picture(100 * k + i).save(root / name / f"{i}.png")
        return root

    return write


def table(kind: str, name: str):
    def write(root: Path) -> Path:
        root.mkdir()
        rows = []
        for i in range(3 * EACH):
            picture(i).save(root / f"{i}.png")
            rows.append((f"{i}.png", (name, "circle", "cross")[i % 3]))
        if kind == "csv":
            lines = ["file_name,label", *(f'{file},"{label}"' for file, label in rows)]
        else:
            lines = [json.dumps({"file_name": file, "label": label}) for file, label in rows]
        (root / f"metadata.{kind}").write_text("\n".join(lines), encoding="utf-8")
        return root

    return write


def npz(name: str, words: bool):
    def write(root: Path) -> Path:
        root.mkdir()
        names = np.array([name, "circle", "cross"])
        number = np.arange(3 * EACH) % 3
        images = np.stack([np.asarray(picture(int(i))) for i in range(3 * EACH)])
        labels = {"labels": names[number]} if words else {"labels": number, "classes": names}
        np.savez(root / "set.npz", images=images, **labels)
        return root / "set.npz"

    return write


def parquet(name: str):
    """ClassLabel names, as the datasets library writes them."""

    def write(root: Path) -> Path:
        root.mkdir()
        cells = []
        for i in range(3 * EACH):
            stream = io.BytesIO()
            picture(i).save(stream, "PNG")
            cells.append({"bytes": stream.getvalue(), "path": None})
        info = {
            "info": {
                "features": {
                    "image": {"_type": "Image"},
                    "label": {"names": [name, "circle", "cross"], "_type": "ClassLabel"},
                }
            }
        }
        found = pa.table({"image": cells, "label": [i % 3 for i in range(3 * EACH)]})
        found = found.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(found, root / "train-00000-of-00001.parquet")
        return root

    return write


# What is written, and the name that must not get out.
CLASSES = {
    "DICOM name as folder": class_folders("Doe^John"),
    "last name, first name": class_folders("Quillfeather, Erika"),
    "first and last name": class_folders("Erika Quillfeather"),
    "title": class_folders("Frau Quillfeather"),
    "no detector knows it": class_folders("Quillfeather"),
    "date": class_folders("1987-03-12"),
    "accession number": class_folders("ACC-993812"),
    "record number": class_folders("MRN0012345"),
    "patient number": class_folders("patient_007"),
    "file stem": class_folders("IMG_2041"),
    "UUID": class_folders("550e8400-e29b-41d4-a716-446655440000"),
    "unicode twin": class_folders("Jоhn Quillfeather"),
    "invisible letter": class_folders("Jo\u200bhn Quillfeather"),
    "label of a csv": table("csv", "Quillfeather, Erika"),
    "label of a jsonl": table("jsonl", "Quillfeather"),
    "labels of an npz": npz("Quillfeather", True),
    "classes of an npz": npz("Quillfeather", False),
    "ClassLabel of parquet": parquet("Quillfeather"),
}
# The other ways, all in one set: caption, unit value, further column, file stem, text in a picture.
BESIDE = ("Captionsworth", "Unitsworth", "Columnsworth", "Stemsworth", "Chunksworth")


@pytest.fixture
def said(tiny_base):
    schedule = {"steps": 2, "expected_batch_size": 8, "micro_batch": 8, "precision": "float32"}
    return {"base": str(tiny_base), "epsilon": 4.0, "delta": 1e-3, "anyway": True, **schedule}


@pytest.mark.parametrize("way", CLASSES)
def test_a_name_among_the_classes_stops_before_the_charge(way, said, tmp_path, ledger_of_the_test):
    source = CLASSES[way](tmp_path / "set")
    with pytest.raises(DataError, match="--yes-public"):
        verbs.adapt(source, output=tmp_path / "run", **said)
    assert not (tmp_path / "run").exists()
    assert not budget.open_ledger(ledger_of_the_test).chain.of("CHARGE")


def test_only_a_person_says_yes_and_sees_the_name_first(said, tmp_path):
    source = CLASSES["no detector knows it"](tmp_path / "set")
    seen = []
    with pytest.raises(DataError, match="not confirmed"):
        verbs.adapt(
            source, output=tmp_path / "run", confirm=lambda rows: bool(seen.append(rows)), **said
        )
    assert "Quillfeather" in dict(seen[0])["classes"] and not (tmp_path / "run").exists()
    run = verbs.adapt(source, output=tmp_path / "run", confirm=lambda rows: True, **said)
    assert "Quillfeather" in run.plan.classes
    assert any("read off the data" in text for text in run.options["statements"]["opt_ins"])


def everything(folder: Path):
    """All bytes of a release, packed ones unpacked."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            blob = path.read_bytes()
            yield path.name, str(path.relative_to(folder)).encode() + b"\0" + blob
            if path.suffix == ".parquet":
                yield path.name, repr(pq.read_table(path).to_pylist()).encode()
            if path.suffix == ".png":
                yield path.name, repr(Image.open(path).info).encode()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as packed:
                    yield path.name, b"".join(map(packed.read, packed.namelist()))


def in_a_table(root: Path) -> dict:
    """Caption, unit value, further column, file stem, text chunk, name of the folder."""
    rows = ["file_name,label,caption,patient,referrer"]
    root.mkdir()
    for i in range(24):
        text = PngInfo()
        text.add_text("Author", BESIDE[4])
        text.add_itxt("Comment", BESIDE[4], zip=True)
        name = f"{BESIDE[3]}-{i}.png"
        picture(i).save(root / name, pnginfo=text)
        label = ("circle", "cross")[i % 2]
        rows.append(f"{name},{label},{BESIDE[0]} {i},{BESIDE[1]} number {i},{BESIDE[2]}")
    (root / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    assert zlib.compress(BESIDE[4].encode()) in (root / f"{BESIDE[3]}-0.png").read_bytes()
    return {"unit": "patient", "caption_column": "caption", "classes": ["circle", "cross"]}


def in_folders(root: Path) -> dict:
    """A folder per patient below the classes, accession numbers as stems, EXIF, texts beside."""
    for i in range(24):
        place = root / ("circle", "cross")[i % 2] / f"{BESIDE[1]}, Erika {i}"
        place.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x010E], exif[0x013B] = BESIDE[4], BESIDE[2]
        picture(i).save(
            place / f"{BESIDE[3]} ACC-{i:06d}.jpg", exif=exif, comment=BESIDE[4].encode()
        )
        (place / "notes.txt").write_text(f"{BESIDE[0]}, born 1987-03-12")
    return {"unit": "folder", "yes_public": True}


def in_parquet(root: Path) -> dict:
    """Path inside an image cell, further columns, a nested one, and names of the schema."""
    root.mkdir()
    cells = []
    for i in range(24):
        stream = io.BytesIO()
        picture(i).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": f"{BESIDE[3]}-{i}.png"})
    columns = {
        "image": cells,
        "label": [("circle", "cross")[i % 2] for i in range(24)],
        "patient": [f"{BESIDE[1]} number {i}" for i in range(24)],
        "text": [f"{BESIDE[0]} {i}" for i in range(24)],
        BESIDE[2]: [{"referrer": BESIDE[4]}] * 24,
    }
    found = pa.table(columns).replace_schema_metadata({"author": BESIDE[4]})
    pq.write_table(found, root / "train-00000-of-00001.parquet")
    columns = {"unit": "patient", "caption_column": "text", "yes_public": True}
    return columns | {"condition": "classes"}  # a token learns from no caption


@pytest.mark.parametrize(
    ("write", "method"),
    [(in_a_table, "attention"), (in_folders, "lora"), (in_parquet, "embedding")],
    ids=["table and model", "folders and LoRA", "parquet and token"],
)
def test_no_other_place_of_a_name_is_published(write, method, said, tmp_path):
    root = tmp_path / "Foldersworth"
    read = write(root)
    run = verbs.adapt(root, output=tmp_path / "run", method=method, **read, **said)
    assert bool(run.plan.captions) == (write is in_a_table)
    pictures = verbs.synthesize(run, 6, tmp_path / "pictures", steps=1)
    verbs.release(pictures)
    model = verbs.export(run, tmp_path / "model")
    verbs.release(model)
    seen = 0
    for folder in (pictures, model):
        for name, blob in everything(folder):
            seen += 1
            for word in (*BESIDE, "Foldersworth", "Erika", "ACC-0", "1987-03"):
                spelt = {word, word.lower(), word.upper()}
                kinds = (word.encode("utf-8") for word in spelt)
                found = [kind for kind in kinds if kind in blob]
                assert not found and word.encode("utf-16-le") not in blob, (name, word)
    assert seen > 15 and verbs.verify(pictures).ok and verbs.verify(model).ok


@pytest.mark.parametrize("way", CLASSES)
def test_with_a_declared_list_the_name_is_on_no_list_of_what_is_public(way, said, tmp_path):
    source = CLASSES[way](tmp_path / "set")
    declared = verbs.plan(source, classes=["circle", "cross"], max_bad=1.0, **said)
    told = json.dumps([declared.plan.to_json(), declared.public])
    assert not any(word in told for word in ("Quillfeather", "Doe", "Erika", "9938", "0012345"))
