"""Which layout a place has: by names and kinds of files, or as the owner says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from .. import tables
from ..columns import Listing
from ..trees import PACKED_TARS, TARS, Tree, archive_tree, is_archive, listed_members, tree_of
from . import arrow, coco, folders, hub, table, webdataset
from .splits import chosen_split, kind_of

HOLDERS = (*tables.TABLE_SUFFIXES, ".parquet", ".arrow", ".npz", ".tar", ".json")
FOREIGN = (
    "{name!r} is not a csv, jsonl, parquet, arrow, zip, tar, COCO json, idx or npz file: give one"
    " of these, or a folder (unpack other archives first)"
)


def is_flat(root: Path) -> bool:
    """Whether a place is plain images: no class folders, no table, nothing that holds many."""
    if not root.is_dir() and not is_archive(root):
        return False
    asked = dict.fromkeys(("labels", "captions", "unit", "classes", "unlabelled"))
    options = asked | {"before": False, "refusals": []}
    try:
        tree = tree_of(root)
        held = any("/" not in name and name.lower().endswith(HOLDERS) for name in tree.names)
        held = held or any(name.lower().endswith(".parquet") for name in tree.names)
        return not held and coco.find(tree, "train") is None and folders.is_flat(tree, options)
    except DataError:
        return False


def listing_at(root: Path, part: str, options: dict[str, Any]) -> Listing:
    """The records at a place, in the layout that was declared or is seen.

    Args:
        root: A folder or file.
        part: "train" or "test", where the place holds splits.
        options: As `load_records` collects them.

    Raises:
        DataError: It is none of the layouts, or not the declared one.
    """
    layout = options["layout"]
    if layout in ("folders", "inner", "kohya", "flat"):
        tree = tree_of(root)
        said = options | {"unlabelled": True} if layout == "flat" else options
        return folders.listing(tree, part, said)
    if root.is_file():
        return _of_file(root, part, options)
    found = _of_packed(root, part, options, layout)
    if found is not None:
        return found
    return _of_tree(tree_of(root), part, options, layout)


def _of_file(root: Path, part: str, options: dict[str, Any]) -> Listing:
    suffix = root.suffix.lower()
    if suffix in tables.TABLE_SUFFIXES:
        return table.of_file(root, part, options)
    if suffix == ".json":
        return coco.of_file(root, options)
    if suffix == ".arrow":
        return arrow.listing_of(root, part, options)
    if suffix == ".parquet":
        return hub.listing([root], None, options)
    if suffix in TARS and (
        options["layout"] == "webdataset" or webdataset.is_webdataset(listed_members(root))
    ):
        return webdataset.listing_of(root, [root], None, options)
    if root.name.lower().endswith(PACKED_TARS):
        archive_tree(root)  # says what to do
    if is_archive(root) or options["layout"] is not None:
        return _of_tree(tree_of(root), part, options, options["layout"])
    raise DataError(FOREIGN.format(name=root.name))


def _of_packed(
    root: Path, part: str, options: dict[str, Any], layout: str | None
) -> Listing | None:
    """A folder whose files hold many pictures each; None for another."""
    if layout == "arrow" or layout is None and arrow.saved_by_datasets(root):
        return arrow.listing_of(root, part, options)
    if layout in (None, "parquet"):
        files, line = hub.find(root, part)
        if files:
            return hub.listing(files, line, options)
    if layout is None and arrow.any_arrow(root):
        return arrow.listing_of(root, part, options)
    if layout in (None, "webdataset"):
        files, line = webdataset.shards(root, part)
        if files and (layout or not tree_of(root).pictures):
            return webdataset.listing_of(root, files, line, options)
    if layout in ("arrow", "parquet", "webdataset"):
        raise DataError(f"--layout {layout}: the folder holds no such files")
    return None


def _of_tree(tree: Tree, part: str, options: dict[str, Any], layout: str | None) -> Listing:
    """Pictures that are files of their own: in a folder, or in an archive."""
    if layout in (None, "table"):
        for place, line in ((tree, None), _chosen(tree, part)):
            name = None if place is None else table.find(place, part, options)
            if place is not None and name is not None:
                found = table.listing(place, name, part, options)
                return replace(found, said=(*found.said, *([line] if line else [])))
        if layout == "table":
            raise DataError("--layout table: the folder holds no table that names images")
    if layout in (None, "coco"):
        path = coco.find(tree, part)
        if path is not None:
            return coco.listing(tree, path, options)
        if layout == "coco":
            raise DataError("--layout coco: the folder holds no COCO json with objects")
    return folders.listing(tree, part, options)


def _chosen(tree: Tree, part: str) -> tuple[Tree | None, str | None]:
    """The folder of a split, where all folders are those of splits."""
    held = sorted({name.split("/")[0] for name in tree.pictures if "/" in name})
    if not held or not all(map(kind_of, held)):
        return None, None
    try:
        chosen = chosen_split(held, part)
    except DataError:  # said where class folders are looked for
        return None, None
    return tree.below(chosen or ""), f"folders {', '.join(held)}: read as splits, here {chosen}"
