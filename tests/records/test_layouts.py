"""The same 12 pictures in 3 classes and 5 units, kept in the ways that the tools around us keep
them, are the same records.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.records import load_records
from sfumato.records.recordset import RecordSet

CLASSES = ("cat", "dog", "owl")
BY_COLUMN = {"unit": "patient", "caption_column": "caption"}
BY_FOLDER = {"unit": "folder", "caption_column": "txt"}


@dataclass(frozen=True)
class Item:
    number: int

    @property
    def label(self) -> str:
        return CLASSES[self.number % 3]

    @property
    def patient(self) -> str:
        return f"P{self.number % 5}"

    @property
    def caption(self) -> str:
        return f'a {self.label}, "{self.number}"'

    @property
    def pixels(self) -> np.ndarray:
        return np.random.default_rng(self.number).integers(0, 256, (16, 16, 3), np.uint8)

    @property
    def png(self) -> bytes:
        out = io.BytesIO()
        Image.fromarray(self.pixels).save(out, "PNG")
        return out.getvalue()

    @property
    def name(self) -> str:
        return f"{self.number:02d}.png"


ITEMS = [Item(i) for i in range(12)]
OTHERS = [Item(i) for i in range(100, 106)]  # of another split, and to be left alone


def put(place: Path, data: bytes | str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data.encode() if isinstance(data, str) else data)
    return place


def folders(root: Path, items: list[Item], way: str = "{label}/{patient}/", captions=True) -> None:
    """Each picture in its folder, and its caption beside it, with a second line."""
    for item in items:
        place = put(root / way.format(label=item.label, patient=item.patient) / item.name, item.png)
        if captions:
            put(place.with_suffix(".txt"), f"\n{item.caption}\nmore of it\n")


def rows(items: list[Item], way: str = "pics/{name}") -> list[dict[str, str]]:
    return [
        {
            "file_name": way.format(name=item.name, label=item.label, patient=item.patient),
            "label": item.label,
            "patient": item.patient,
            "caption": item.caption,
        }
        for item in items
    ]


def csv(lines: list[dict[str, str]], mark: str = ",", **renamed: str) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    head = [renamed.get(name, name) for name in lines[0]]
    return "\n".join([mark.join(head), *(mark.join(map(cell, row.values())) for row in lines)])


def flat(root: Path, items: list[Item] = ITEMS) -> None:
    folders(root, items, "", captions=False)


def features(label: Any = None) -> datasets.Features:
    text = datasets.Value("string")
    kind = label or datasets.ClassLabel(names=list(CLASSES))
    image = datasets.Image()
    return datasets.Features({"image": image, "label": kind, "patient": text, "caption": text})


def dataset(items: list[Item]) -> datasets.Dataset:
    held = {
        "image": [{"bytes": item.png, "path": item.name} for item in items],
        "label": [CLASSES.index(item.label) for item in items],
        "patient": [item.patient for item in items],
        "caption": [item.caption for item in items],
    }
    return datasets.Dataset.from_dict(held, features())


def coco(items: list[Item], names: Callable[[Item], str]) -> dict[str, Any]:
    """Objects of other classes in each picture, and the largest of its own."""
    images, objects = [], []
    for item in items:
        own = {"patient": item.patient, "caption": item.caption}
        images.append({"id": 7 * item.number, "file_name": names(item), **own})
        kind = CLASSES.index(item.label)
        for number, (which, side) in enumerate(((kind + 1, 3), (kind, 9), (kind + 2, 5))):
            box = {"bbox": [1, 1, side, side], "area": side * side}
            where = {"image_id": 7 * item.number, "category_id": 10 + which % 3}
            objects.append({"id": 3 * item.number + number, **where, **box})
    kinds = [{"id": 10 + i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": objects, "categories": kinds}


def zipped(place: Path, root: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(place, "w", method) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root))
    return place


def tarred(place: Path, members: list[tuple[str, bytes]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return place


def sample(item: Item, key: str) -> list[tuple[str, bytes]]:
    held = json.dumps({"patient": item.patient, "size": [16, 16]}).encode()
    return [
        (f"{key}.png", item.png),
        (f"{key}.cls", item.label.encode()),
        (f"{key}.txt", f"{item.caption}\nmore".encode()),
        (f"{key}.json", held),
    ]


# ---------------------------------------------------------------- the layouts


def class_folders(root: Path) -> dict[str, Any]:
    folders(root, ITEMS)
    put(root / "README.md", "none")
    put(root / ".DS_Store", "none")
    put(root / "__MACOSX" / "cat" / "._00.png", "none")
    return BY_FOLDER


def split_folders(root: Path) -> dict[str, Any]:
    folders(root / "Train", ITEMS)
    folders(root / "val", OTHERS[:3])
    folders(root / "test", OTHERS[3:])
    return BY_FOLDER


def splits_inside_classes(root: Path) -> dict[str, Any]:
    folders(root, ITEMS, "{label}/train/{patient}/")
    folders(root, OTHERS, "{label}/test/{patient}/")
    return BY_FOLDER


def splits_in_a_wrapper(root: Path) -> dict[str, Any]:
    folders(root / "my set" / "training", ITEMS)
    folders(root / "my set" / "validation", OTHERS)
    return BY_FOLDER


def beside_masks(root: Path) -> dict[str, Any]:
    folders(root / "images", ITEMS)
    folders(root / "masks", OTHERS, captions=False)
    return BY_FOLDER


def folds(root: Path) -> dict[str, Any]:
    for part in (0, 1):
        folders(root / f"fold_{part}", ITEMS[part::2])
    return BY_FOLDER


def kohya(root: Path) -> dict[str, Any]:
    folders(root, ITEMS, "{label}/{patient}/")
    for label, count in zip(CLASSES, (10, 5, 10)):
        (root / label).rename(root / f"{count}_{label}")
    return BY_FOLDER


def kohya_with_regularisation(root: Path) -> dict[str, Any]:
    kohya(root / "img")
    folders(root / "reg" / "1_cat", OTHERS, "", captions=False)
    put(root / "log" / "events", "none")
    return BY_FOLDER


def links_in_the_folder(root: Path) -> dict[str, Any]:
    folders(root / ".store", ITEMS)
    for path in sorted((root / ".store").rglob("*.*")):
        place = root / path.relative_to(root / ".store")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(path, place.parent))
    return BY_FOLDER


def metadata_csv(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    put(root / "metadata.csv", csv(rows(ITEMS)))
    return BY_COLUMN


def metadata_jsonl(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    put(root / "metadata.jsonl", "\n".join(map(json.dumps, rows(ITEMS))))
    return BY_COLUMN


def semicolons_and_other_names(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    names = {
        "file_name": "Image Path",
        "label": "LABEL",
        "patient": "Patient",
        "caption": "Caption",
    }
    put(root / "metadata.csv", "\ufeff" + csv(rows(ITEMS), ";", **names))
    return BY_COLUMN


def paths_of_another_machine(root: Path) -> dict[str, Any]:
    folders(root, ITEMS, "{label}/", captions=False)
    put(root / "metadata.csv", csv(rows(ITEMS, "/home/me/sets/v2/{label}/{name}")))
    return BY_COLUMN


def paths_of_windows(root: Path) -> dict[str, Any]:
    folders(root, ITEMS, "{label}/{patient}/", captions=False)
    put(root / "metadata.csv", csv(rows(ITEMS, "D:\\sets\\{label}\\{patient}\\{name}")))
    return BY_COLUMN


def absolute_paths(root: Path) -> dict[str, Any]:
    folders(root, ITEMS, "a/{label}/", captions=False)
    put(root / "metadata.csv", csv(rows(ITEMS, f"{root.absolute()}/a/{{label}}/{{name}}")))
    return BY_COLUMN


def bare_names_of_nested_files(root: Path) -> dict[str, Any]:
    for part in (0, 1):
        flat(root / f"images_part_{part + 1}", ITEMS[part::2])
    put(root / "labels.csv", csv(rows(ITEMS, "{name}"), "\t", file_name="image"))
    return BY_COLUMN


def ids_without_suffix(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    held = [row | {"file_name": row["file_name"][:-4]} for row in rows(ITEMS, "{name}")]
    put(root / "GroundTruth.csv", csv(held, file_name="image_id"))
    return BY_COLUMN


def a_column_of_splits(root: Path) -> dict[str, Any]:
    flat(root / "pics", ITEMS + OTHERS)
    held = [row | {"split": "train"} for row in rows(ITEMS)]
    held += [row | {"split": "test"} for row in rows(OTHERS)]
    put(root / "metadata.csv", csv(held))
    return BY_COLUMN


def a_table_in_each_split(root: Path) -> dict[str, Any]:
    for name, items in (("train", ITEMS), ("test", OTHERS)):
        flat(root / name, items)
        put(root / name / "metadata.csv", csv(rows(items, "{name}")))
    return BY_COLUMN


def wide_text_of_a_spreadsheet(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    put(root / "table.tsv", csv(rows(ITEMS), "\t").encode("utf-16"))
    return BY_COLUMN


def zip_of_folders(root: Path) -> dict[str, Any]:
    folders(root / "set", ITEMS)
    return BY_FOLDER | {"path": zipped(root / "set.zip", root / "set")}


def zip_of_a_table(root: Path) -> dict[str, Any]:
    flat(root / "set" / "pics")
    put(root / "set" / "metadata.csv", csv(rows(ITEMS)))
    return BY_COLUMN | {"path": zipped(root / "set.zip", root / "set", zipfile.ZIP_STORED)}


def tar_of_folders(root: Path) -> dict[str, Any]:
    members = []
    for item in ITEMS:
        name = f"./train/{item.label}/{item.patient}/{item.number:02d}"
        members += [(f"{name}.png", item.png), (f"{name}.txt", f"{item.caption}\nmore".encode())]
    return BY_FOLDER | {"path": tarred(root / "set.tar", members)}


def webdataset_tar(root: Path) -> dict[str, Any]:
    members = [member for item in ITEMS for member in sample(item, f"{item.number:04d}")]
    path = tarred(root / "set.tar", sorted(members, key=lambda member: member[0][-3:]))
    return {"unit": "patient", "caption_column": "txt", "path": path}


def webdataset_shards(root: Path) -> dict[str, Any]:
    """As its own writer writes them: numbers for classes, names in a list beside them."""
    writer = pytest.importorskip("webdataset")
    for part, items in (("train", ITEMS), ("test", OTHERS)):
        place = root / part
        place.mkdir(parents=True)
        with writer.ShardWriter(f"{place}/set-%06d.tar", maxcount=5, verbose=0) as out:
            for item in items:
                out.write(
                    {
                        "__key__": f"v1.0/{item.number:04d}",
                        "left.png": item.pixels,
                        "cls": CLASSES.index(item.label),
                        "txt": item.caption,
                        "json": {"patient": item.patient},
                    }
                )
    put(root / "classnames.txt", "\n".join(CLASSES) + "\n")
    return {"unit": "patient", "caption_column": "txt"}


def parquet_file(root: Path) -> dict[str, Any]:
    dataset(ITEMS).to_parquet(put(root / "set.parquet", ""))
    return BY_COLUMN


def parquet_of_the_hub(root: Path) -> dict[str, Any]:
    for number, part in enumerate((ITEMS[:7], ITEMS[7:])):
        dataset(part).to_parquet(put(root / f"data/train-0000{number}-of-00002.parquet", ""))
    dataset(OTHERS).to_parquet(root / "data/validation-00000-of-00001.parquet")
    put(root / "README.md", "---\nconfigs: []\n---")
    return BY_COLUMN


def parquet_converted_by_the_hub(root: Path) -> dict[str, Any]:
    for part, items in (("train", ITEMS), ("test", OTHERS)):
        dataset(items).to_parquet(put(root / "default" / part / "0000.parquet", ""))
    return BY_COLUMN


def parquet_of_plain_bytes(root: Path) -> dict[str, Any]:
    held = [{k: v for k, v in row.items() if k != "file_name"} for row in rows(ITEMS)]
    held = [{"jpg": item.png, **row} for item, row in zip(ITEMS, held)]
    pq.write_table(pa.Table.from_pylist(held), put(root / "x.parquet", ""), row_group_size=5)
    return BY_COLUMN


def parquet_of_paths(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    held = [{"image": {"bytes": None, "path": row.pop("file_name")}, **row} for row in rows(ITEMS)]
    pq.write_table(pa.Table.from_pylist(held), root / "x.parquet")
    return BY_COLUMN


def saved_to_disk(root: Path) -> dict[str, Any]:
    dataset(ITEMS).save_to_disk(root)
    return BY_COLUMN


def saved_in_splits(root: Path) -> dict[str, Any]:
    parts = {"train": dataset(ITEMS), "validation": dataset(OTHERS)}
    datasets.DatasetDict(parts).save_to_disk(root)
    return BY_COLUMN


def saved_in_shards(root: Path) -> dict[str, Any]:
    dataset(OTHERS + ITEMS).select(range(6, 18)).save_to_disk(root, num_shards=3)
    return BY_COLUMN


def cache_of_datasets(root: Path) -> dict[str, Any]:
    with datasets.arrow_writer.ArrowWriter(
        features=features(), path=str(put(root / "set-train.arrow", "")), writer_batch_size=5
    ) as writer:
        for row in dataset(ITEMS).cast_column("image", datasets.Image(decode=False)):
            writer.write(row)
        writer.finalize()
    put(root / "dataset_info.json", "{}")
    return BY_COLUMN


def coco_beside(root: Path) -> dict[str, Any]:
    flat(root / "pics")
    put(root / "annotations.json", json.dumps(coco(ITEMS, lambda item: item.name)))
    return BY_COLUMN | {"objects": "largest"}


def coco_as_published(root: Path) -> dict[str, Any]:
    for part, items in (("train", ITEMS), ("val", OTHERS)):
        flat(root / f"{part}2017", items)
        body = json.dumps(coco(items, lambda item: item.name))
        put(root / "annotations" / f"instances_{part}2017.json", body)
    put(root / "annotations" / "captions_train2017.json", '{"images": [], "annotations": []}')
    return BY_COLUMN | {"objects": "largest"}


def coco_of_single_objects(root: Path) -> dict[str, Any]:
    flat(root / "images")
    body = coco(ITEMS, lambda item: f"images/{item.name}")
    body["annotations"] = [one for one in body["annotations"] if one["id"] % 3 == 1]
    return BY_COLUMN | {"path": put(root / "labels.json", json.dumps(body))}


def arrays(root: Path) -> dict[str, Any]:
    np.savez(
        put(root / "set.npz", ""),
        images=np.stack([item.pixels for item in ITEMS]),
        labels=np.array([item.label for item in ITEMS]),
        unit=np.array([item.patient for item in ITEMS]),
        caption=np.array([item.caption for item in ITEMS]),
    )
    return {"path": root / "set.npz", "caption_column": "caption"}


LAYOUTS: dict[str, list[Callable[[Path], dict[str, Any]]]] = {
    "folder": [
        class_folders,
        split_folders,
        splits_inside_classes,
        splits_in_a_wrapper,
        beside_masks,
        folds,
        links_in_the_folder,
        zip_of_folders,
        tar_of_folders,
    ],
    "kohya": [kohya, kohya_with_regularisation],
    "table": [
        metadata_csv,
        metadata_jsonl,
        semicolons_and_other_names,
        paths_of_another_machine,
        paths_of_windows,
        absolute_paths,
        bare_names_of_nested_files,
        ids_without_suffix,
        a_column_of_splits,
        a_table_in_each_split,
        wide_text_of_a_spreadsheet,
        zip_of_a_table,
    ],
    "webdataset": [webdataset_tar, webdataset_shards],
    "parquet": [
        parquet_file,
        parquet_of_the_hub,
        parquet_converted_by_the_hub,
        parquet_of_plain_bytes,
        parquet_of_paths,
    ],
    "arrow": [saved_to_disk, saved_in_splits, saved_in_shards, cache_of_datasets],
    "coco": [coco_beside, coco_as_published, coco_of_single_objects],
    "npz": [arrays],
}


def told(records: RecordSet) -> tuple[dict[bytes, tuple[str, str]], set[frozenset[bytes]]]:
    """Picture -> (class, caption), and the pictures of each unit."""
    assert records.captions is not None
    prints = records.fingerprints
    of = {
        one: (records.classes[label], caption)
        for one, label, caption in zip(prints, records.labels, records.captions)
    }
    units = {
        frozenset(prints[slot] for slot in np.flatnonzero(records.unit == unit))
        for unit in range(records.n_units)
    }
    return of, units


@pytest.fixture(scope="module")
def truth():
    pixels = np.stack([item.pixels for item in ITEMS])
    from sfumato.records.decode import fingerprints

    prints = fingerprints(pixels)
    of = {one: (item.label, item.caption) for one, item in zip(prints, ITEMS)}
    units = {
        frozenset(one for one, item in zip(prints, ITEMS) if item.patient == patient)
        for patient in {item.patient for item in ITEMS}
    }
    assert len(of) == 12 and len(units) == 5
    return of, units


def test_they_are_at_least_two_dozen():
    assert sum(map(len, LAYOUTS.values())) >= 24


@pytest.mark.parametrize("kind,make", [(k, make) for k, all_ in LAYOUTS.items() for make in all_])
def test_the_same_pictures_are_the_same_records(tmp_path, kind, make, truth):
    root = tmp_path / "given"
    options = make(root)
    place = options.get("path", root)
    options = {name: value for name, value in options.items() if name != "path"}
    records = load_records(place, **options)
    assert records.kind == kind and records.n == 12 and records.usable.all()
    assert records.classes == CLASSES and not records.few
    assert told(records) == truth
    # and they are read again as they were indexed
    images, good = records.load(range(12), 16)
    assert good.all()
    wanted = {item.pixels.tobytes() for item in ITEMS}
    assert {image.tobytes() for image in images} == wanted
