"""COCO annotations: objects in pictures, and one class for each record by a declared rule."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..columns import Listing
from ..rules import refuse
from ..tables import cell_text
from ..trees import Tree, TreeReader, tree_of
from ..unpacked import listed
from .names import Names
from .splits import chosen_split, kind_of

FOLDERS = ("annotations", "annotation", "labels")
LARGEST, CROPS = "largest", "crops"
WORDS = (b'"images"', b'"annotations"', b'"categories"')
CURE = (
    "declare which is meant with --objects largest (the largest object names the class) or"
    " --objects crops (each object is a record, all of one image are one unit)"
)


def find(tree: Tree, part: str) -> Path | None:
    """The COCO file of a folder: at its top or in `annotations`, of the part if names say which.

    DataError for several.
    """
    if not tree.place.is_dir():
        return None
    found = [
        tree.place / name
        for name in tree.names
        if name.endswith(".json")
        and ("/" not in name or name.count("/") == 1 and name.split("/")[0].lower() in FOLDERS)
        and _looks_like(tree.place / name)
    ]
    splits = {path: _split_of(path) for path in found}
    if any(splits.values()):
        chosen = chosen_split(sorted({word for word in splits.values() if word}), part)
        found = [path for path in found if splits[path] == chosen]
    if len(found) > 1:
        raise DataError(
            f"{len(found)} COCO files lie here and say different things: give the one that is meant"
            " as the path"
        )
    return found[0] if found else None


def _split_of(path: Path) -> str | None:
    return next((w for w in path.stem.replace("-", "_").split("_") if kind_of(w)), None)


def _looks_like(path: Path) -> bool:
    """Whether the keys of a COCO file with objects stand in a file; it is not parsed."""
    left, tail = set(WORDS) | {b'"bbox"'}, b""
    try:
        with open(path, "rb") as stream:
            while left and (data := stream.read(2**20)):
                left -= {word for word in left if word in tail + data}
                tail = data[-16:]
    except OSError:
        return False
    return not left


def of_file(path: Path, options: dict[str, Any]) -> Listing:
    """The records of a COCO file; its pictures lie beside it, or beside its folder."""
    folder = path.parent
    if folder.name.lower() in FOLDERS:
        folder = folder.parent
    return listing(tree_of(folder), path, options)


def listing(tree: Tree, path: Path, options: dict[str, Any]) -> Listing:
    """The records of a COCO file with pictures in a tree.

    DataError where images have objects of several classes and no rule is declared, or no image is
    there.
    """
    found = listed("coco", [path])
    images, columns, names = found["images"], found["columns"], found["categories"]
    files = Names(tree, path.name).found(images)
    if files and not any(file in tree.known for file in files):
        raise DataError(
            f"none of the {len(files):,} images that {path.name} names is there: put them beside"
            " it, or give a folder that holds both"
        )
    objects = np.array(found["objects"], np.float64).reshape(-1, 7)
    rule = options["objects"]
    of, label, boxes = _records(objects, len(files), rule, options)
    labels = [None if number < 0 else names[number] for number in label]
    said = [f"COCO annotations ({path.name})"]
    if rule is None:
        several = "where it has several, --objects says which class an image has"
        said.append(f"the class of an image is that of its objects; {several}")
    elif rule == LARGEST:
        said.append("the class of an image is that of its largest object (--objects largest)")
    else:
        said.append("each object is a record; all of one image are one unit (--objects crops)")
    held = [files[image] for image in of]
    reader = TreeReader(tree, tuple(held))
    left = Counter(tree.left_out())
    reader = reader if boxes is None else Crops(tree, tuple(held), boxes)
    left["image not in the annotations"] = sum(name not in set(files) for name in tree.pictures)
    left["image without an object"] = len(files) - len(np.unique(of)) if rule == CROPS else 0
    return Listing(
        "coco",
        reader,
        len(held),
        said=tuple(said),
        columns=tuple(columns),
        column=lambda name: [columns[name][image] for image in of],
        labels=labels,
        label_column=None,
        names={},
        same=tree.numbers_of(held),
        table=path.name,
        ignored=left,
    )


@dataclass(frozen=True)
class Crops(TreeReader):
    """Reads slot -> encoded picture, of which `box` is the record."""

    boxes: np.ndarray  # int64 [n, 4]

    def taken(self, at: np.ndarray) -> Crops:
        """The reader of some places, in their order."""
        names = tuple(self.names[place] for place in at.tolist())
        return replace(self, names=names, boxes=self.boxes[at])

    def box(self, slot: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        left, top, right, bottom = self.boxes[slot].tolist()
        return left, top, right, bottom


def _records(
    objects: np.ndarray, n: int, rule: str | None, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Image and class of each record, and its box if it is a part of the image."""
    image, category = objects[:, 0].astype(np.int64), objects[:, 1].astype(np.int64)
    if rule == CROPS:
        return image, category, _boxes(objects[:, 3:7])
    if rule is None and len(objects):
        low, high = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
        np.minimum.at(low, image, category)
        np.maximum.at(high, image, category)
        mixed = int((high > low).sum())
        if mixed:
            refuse(
                f"{mixed:,} images have objects of several classes, and an image has one class"
                f" here: {CURE}",
                options["refusals"],
            )
    label = np.full(n, -1, np.int64)
    # by rising area, of equal ones backwards: the largest, or the first of them, is written last
    for at in np.lexsort((-np.arange(len(objects)), objects[:, 2])).tolist():
        label[image[at]] = category[at]
    return np.arange(n), label, None


def _boxes(boxes: np.ndarray) -> np.ndarray:
    """int64 left, top, right, bottom of left, top, width, height; whole pixels that are touched."""
    left, top = np.floor(boxes[:, 0]), np.floor(boxes[:, 1])
    right, bottom = np.ceil(boxes[:, 0] + boxes[:, 2]), np.ceil(boxes[:, 1] + boxes[:, 3])
    ends = np.stack([left, top, right, bottom], axis=1)
    return np.clip(np.nan_to_num(ends), 0, 2**31).astype(np.int64)


def parse(paths: list[Path]) -> dict[str, Any]:
    """A COCO file in short. In the bounded process.

    Returns:
        `images`: file names; `columns`: other single values of an image; `categories`: names;
        `objects`: (image, category, area, left, top, width, height) one after the other.

    Raises:
        DataError: It is damaged, or names an image or category that it does not hold.
    """
    (path,) = paths
    wrong = DataError(f"{path.name} is not a whole COCO file: export it again")
    try:
        body = json.loads(path.read_bytes())
        images, kinds = body["images"], body["categories"]
        number = {kind["id"]: i for i, kind in enumerate(kinds)}
        at = {image["id"]: i for i, image in enumerate(images)}
        names = [str(kind["name"]).strip() for kind in kinds]
        files = [str(image["file_name"]) for image in images]
        if len(at) < len(images) or len(number) < len(kinds):
            raise DataError(f"{path.name} gives an id twice: export it again")
        objects: list[float] = []
        for found in body["annotations"]:
            left, top, width, height = map(float, found["bbox"])
            area = float(found.get("area") or width * height)
            place, kind = at[found["image_id"]], number[found["category_id"]]
            objects += [place, kind, area, left, top, width, height]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise error if isinstance(error, DataError) else wrong from None
    if any(".." in Path(file.replace("\\", "/")).parts or "\0" in file for file in files):
        raise DataError(f"{path.name} names a file outside its folder: give paths without '..'")
    keys = dict.fromkeys(key for image in images for key in image)
    columns = {
        key: [cell_text(image.get(key)) for image in images]
        for key in keys
        if key not in ("id", "file_name", "width", "height", "license", "flickr_url", "coco_url")
    }
    return {"images": files, "columns": columns, "categories": names, "objects": objects}
