"""Parquet as the hub writes it: several files, splits in names or folders, ClassLabel names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DataError
from ..bounded import rehearse
from ..columns import Listing
from ..folder import is_hidden
from .batches import of_batches
from .splits import chosen_split, kind_of


def find(root: Path, part: str) -> tuple[list[Path], str | None]:
    """(Parquet files of a part at a place, the line that says which); none where there are none.

    They lie at the place, in its `data`, or in folders of one configuration and its splits.
    DataError for several configurations, or a part that there is not.
    """
    if root.is_file():
        return ([root] if root.suffix.lower() == ".parquet" else []), None
    files = sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))
    every = sorted(root.rglob("*.parquet"))
    files = files or [p for p in every if not is_hidden(*p.relative_to(root).parts)]
    if not files:
        return [], None
    if all(file.stem == "metadata" for file in files):
        raise DataError(
            "metadata.parquet is a table beside images: save it as metadata.csv or metadata.jsonl"
        )
    splits = {file: _split_of(file, root) for file in files}
    configs = sorted({_config(file, root) for file in files})
    if len(configs) > 1:
        raise DataError(
            f"parquet files of {len(configs)} configurations ({', '.join(configs[:5])}): give the"
            " folder of one of them as the path"
        )
    named = sorted({word for word in splits.values() if word})
    if not named:
        return files, None
    try:
        chosen = chosen_split(named, part)
    except DataError:
        raise DataError(
            f"no parquet file of the split {part!r} among {', '.join(named)}: name one file as the"
            " path"
        ) from None
    held = [file for file in files if splits[file] == chosen]
    return held, f"files of {', '.join(named)}: read as splits, here {chosen}"


def _split_of(path: Path, root: Path) -> str | None:
    """train-00000-of-00002.parquet, data/train.parquet, default/train/0000.parquet."""
    *folders, name = path.relative_to(root).parts
    first = name.removesuffix(".parquet").split("-")[0].split(".")[0].lower()
    return next((word for word in (first, *reversed(folders)) if kind_of(word)), None)


def _config(path: Path, root: Path) -> str:
    """The folders on the way that are no splits: data sets of one configuration have one."""
    folders = path.relative_to(root).parts[:-1]
    return "/".join(folder for folder in folders if kind_of(folder) is None)


def listing(files: list[Path], line: str | None, options: dict[str, Any]) -> Listing:
    """The records of parquet files that hold the images."""
    rehearse(files, parquet=True)
    said = ("parquet", *([line] if line else []))
    return of_batches("parquet", files, said, "the parquet file", options)
