"""Pictures in folders: class folders, by split, as LoRA trainers have them, or all of one class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...errors import DataError
from ..columns import Listing
from ..folder import CAPTIONS, LINK_OUT, OF_BEFORE, OWN_SAID, TEXTS, ending, is_picture
from ..frames import tags_of
from ..rules import refuse
from ..survey import repeats
from ..tables import first_line
from ..trees import LINKED_FOLDER, NO_CONTENT, Tree, TreeReader, stem
from .descend import BESIDE, Place, descend
from .splits import SPLITS

WEIGHTS = (".safetensors", "model_index.json")
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_REPEATS = re.compile(r"\d{1,3}_(?=\S)")


def listing(tree: Tree, part: str, options: dict[str, Any]) -> Listing:
    """The records of a folder without a table; DataError for one that has no classes."""
    layout = "folders" if options["before"] and not _by_splits(tree) else options["layout"]
    if layout in ("folders", "inner"):
        place = Place(tree, tree.pictures)
    else:
        place = descend(tree, part, options, Place(tree, tree.pictures))
    tree = place.tree
    if options["before"]:
        names = [name for name in place.names if ending(name) in OF_BEFORE]
        place = replace(place, names=names)
    if options["unlabelled"] or "labels" in tags_of(options, ()):
        return _listing("folder", place, place.names, None, 0, options)
    folders = _folders(place, options)
    names = [name for name in place.names if "/" in name]
    if layout == "inner":
        labels = [name.split("/")[-2] for name in names]
        why = "class folders, each folder that holds pictures is a class"
        return _listing("inner", _saying(place, why), names, labels, 0, options)
    labels = [name.split("/")[0] for name in names]
    if layout == "kohya" or (
        layout is None and not options["before"] and _counts(folders, options)
    ):
        # folders named <repeats>_<words>: the words are the class
        plain = [_REPEATS.sub("", label, count=1) for label in labels]
        why = (
            "folders of a LoRA trainer (kohya): the number in front of a name is how often it"
            " repeats the pictures and no part of the class; nothing is repeated here"
        )
        return _listing("kohya", _saying(place, why), names, plain, 1, options)
    return _listing("folder", place, names, labels, 1, options)


def _by_splits(tree: Tree) -> bool:
    """Whether all pictures lie in folders of splits: what versions before knew of nesting."""
    held = {name.split("/")[0] for name in tree.pictures}
    return bool(held) and all(name.lower() in SPLITS for name in held)


def is_flat(tree: Tree, reading: dict[str, Any]) -> bool:
    """Whether all pictures of a tree lie in one folder that names no class."""
    names = descend(tree, "train", reading, Place(tree, tree.pictures)).names
    return bool(names) and not any("/" in name for name in names)


def _saying(place: Place, *said: str) -> Place:
    return replace(place, said=(*place.said, *said))


def _listing(
    kind: str,
    place: Place,
    names: list[str],
    labels: list[str] | None,
    level: int,
    options: dict[str, Any],
) -> Listing:
    tree = place.tree
    ignored = Counter(place.left_out) + tree.left_out()
    held = set(names)
    ignored["image beside the class folders"] += sum(name not in held for name in place.names)
    columns = sidecars(tree, names)
    captions = {stem(name) for name in names}
    for name in tree.names:
        if name not in held and not is_picture(name) and name not in tree.bare:
            text = name.lower().endswith(TEXTS)
            alone = text and stem(name) not in captions
            read = text and columns and not alone
            why = "captions without an image" if alone and columns else CAPTIONS if text else ""
            ignored[why or "not an image"] += not read
    same = tree.numbers_of(names) if tree.shared.keys() & held else None
    more = 0 if same is None else len(names) - len(set(same.tolist()))
    if more:
        said = f"{more:,} names lead to a file that has another one: all of one file are one unit"
        place = _saying(place, said)
    return Listing(
        kind,
        TreeReader(tree, tuple(names)),
        len(names),
        said=place.said,
        columns=tuple(columns),
        column=lambda name: [columns[name](one) for one in names],
        labels=labels,
        by_folder=units_of(names, level),
        same=same,
        ignored=ignored,
        table="the folder",
    )


def sidecars(tree: Tree, names: Sequence[str]) -> dict[str, Callable[[str], str | None]]:
    """Columns that texts beside pictures are: "txt" or "caption" -> name -> first line."""

    def reader(suffix: str) -> Callable[[str], str | None]:
        return lambda name: first_line(tree.text(stem(name) + suffix))

    return {
        suffix[1:]: reader(suffix)
        for suffix in TEXTS
        if any(stem(name) + suffix in tree.known for name in names)
    }


def units_of(names: Sequence[str], level: int) -> list[str | None]:
    """The folder that stands for the unit of each image; None for an image that lies in none.

    It is the first folder on the image's way (`level` 0), or the one below its class (`level` 1).
    """
    parts = [name.split("/")[:-1] for name in names]
    return [part[level] if len(part) > level else None for part in parts]


def _counts(folders: Sequence[str], options: dict[str, Any]) -> bool:
    """Whether folders are named as those of LoRA trainers, and no such name was declared."""
    declared = options["classes"] or ()
    return (
        not options["before"] and bool(repeats(list(folders))) and not set(declared) & set(folders)
    )


def _folders(place: Place, options: dict[str, Any]) -> list[str]:
    """Class folders; refusals for what cannot be one."""
    tree, refusals = place.tree, options["refusals"]
    loose = [name for name in place.names if "/" not in name]
    held = sorted({name.split("/")[0] for name in place.names if "/" in name})
    linked = [name for name, why in tree.links if why != OWN_SAID]
    named = (*tree.names, *linked, *(name + "/" for name in tree.empty))
    others = {name.split("/")[0] for name in named if "/" in name}
    every = sorted({*held, *(name for name in others if name.lower() not in BESIDE)})
    if not every:
        if loose:
            raise DataError(
                "a flat folder of images has no classes: make one folder per class, "
                "add metadata.csv (file_name,label), or use --unlabelled"
            )
        raise DataError(_nothing(tree))
    if loose:
        refuse(
            f"{len(loose)} images lie beside the class folders: move them into a class folder",
            refusals,
        )
    for folder in sorted(set(every) - set(held)):
        refuse(f"class folder {folder!r} holds no images{_why_none(tree, folder)}", refusals)
    return held


def _nothing(tree: Tree) -> str:
    texts = sum(name.lower().endswith(TEXTS) for name in tree.names)
    if texts and 2 * texts >= len(tree.names):
        return (
            f"{texts:,} texts that may be captions and no image: put the images beside them, with"
            " the same names"
        )
    packed = [name for name in tree.names if name.lower().endswith(PACKED)]
    if packed:
        return (
            f"the folder holds archives ({len(packed):,}) and no images: give a zip or tar as the"
            " path (it is read in place; a compressed tar after decompressing it), or unpack them"
        )
    if tree.links:
        return f"the folder holds no images{_why_none(tree, '')}"
    if any(name.lower().endswith(WEIGHTS) for name in tree.names):
        return (
            "the folder holds a model and no images: draw some with it (`sfumato synthesize RUN`"
            " or diffusers), and give their folder"
        )
    return (
        "the folder holds no images: give class folders, metadata.csv with its images, parquet,"
        " arrow, tar, zip, idx or npz"
    )


def _why_none(tree: Tree, folder: str) -> str:
    """Why a folder holds no images, and the cure."""
    start = folder + "/" if folder else ""
    why = Counter(reason for name, reason in tree.links if name.startswith(start))
    if why[NO_CONTENT]:
        return (
            f" but {why[NO_CONTENT]} links whose files are not there: fetch them (git annex get,"
            " dvc pull, datalad get)"
        )
    if why[LINK_OUT] + why[LINKED_FOLDER]:
        return (
            f" but {why[LINK_OUT] + why[LINKED_FOLDER]} symbolic links that lead out of the folder,"
            " which are not followed: give a folder that holds both, or a copy of the files"
            " themselves (cp -rL)"
        )
    return ": fill it or remove it"
