"""Data sets as `datasets` saves them: `save_to_disk` and its cache, Arrow files with images inside.

The files are read by the bounded process alone, one record batch at a time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..coded import Coded
from ..columns import Listing
from ..decode import BadImage
from ..parquet import flat_columns, packed_listing, picture_in, text_lists
from ..spelling import column_form
from ..tables import lines_text
from .batches import of_batches
from .splits import chosen_split, kind_of

STATE, INFO, SPLITS_FILE = "state.json", "dataset_info.json", "dataset_dict.json"
MOST_STATE = 16 * 2**20  # bytes of a state.json that is believed
_held: dict[str, Any] = {}  # the record batch that was read last, in the bounded process


def saved_by_datasets(root: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (root / SPLITS_FILE).is_file() or ((root / STATE).is_file() and any_arrow(root))


def any_arrow(root: Path) -> bool:
    """Whether Arrow files lie in a folder."""
    return any(root.glob("*.arrow"))


def files_of(root: Path, split: str) -> tuple[list[Path], str | None]:
    """(The Arrow files of one split in the order of the data set, the line that says which).

    DataError for a folder that lacks one, or that holds no such split.
    """
    if root.is_file():
        return [root], None
    if (root / SPLITS_FILE).is_file():
        splits = _json(root / SPLITS_FILE).get("splits")
        if not isinstance(splits, list) or not all(isinstance(s, str) for s in splits):
            raise _damaged(root / SPLITS_FILE)
        name = chosen_split(splits, split)
        if name is None:
            raise DataError(
                f"the data set holds the parts {', '.join(sorted(splits))}: give the folder of one"
                " of them as the path"
            )
        said = f"splits {', '.join(sorted(splits))}: read is {name}"
        return _of_state(_inside(root, name)), said
    if (root / STATE).is_file():
        return _of_state(root), None
    # the cache of `datasets`: NAME-train.arrow, NAME-train-00000-of-00002.arrow
    files = sorted(root.glob("*.arrow"))
    splits = {file: _split_in(file.stem) for file in files}
    named = sorted({word for word in splits.values() if word})
    if not named:
        return files, None
    name = chosen_split(named, split)
    held = [file for file in files if splits[file] == name]
    return held, f"splits {', '.join(named)}: read is {name}"


def _inside(root: Path, name: str) -> Path:
    """A folder or file that a data set names; DataError for one that lies elsewhere."""
    place = root / name
    if not place.resolve().is_relative_to(root.resolve()):
        raise DataError("the data set names files outside its folder: save it again")
    if not place.exists():
        raise DataError(
            "the data set lacks a file that it names: copy the whole folder of save_to_disk again"
        )
    return place


def _of_state(folder: Path) -> list[Path]:
    state = _json(_inside(folder, STATE))
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(
            "the data set was saved with a selection apart from its rows: load it, call"
            " flatten_indices() and save it again"
        )
    named = state.get("_data_files")
    if not isinstance(named, list) or not all(
        isinstance(f, dict) and isinstance(f.get("filename"), str) for f in named
    ):
        raise _damaged(folder / STATE)
    return [_inside(folder, file["filename"]) for file in named]


def _split_in(stem: str) -> str | None:
    return next((word for word in reversed(stem.split("-")) if kind_of(word)), None)


def _json(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            found = json.loads(stream.read(MOST_STATE))
    except (OSError, ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path.name} of the data set is damaged: copy the folder of save_to_disk again"
    )


def listing_of(root: Path, part: str, options: dict[str, Any]) -> Listing:
    """The records of a folder that `datasets` wrote, or of one Arrow file."""
    files, line = files_of(root, part)
    if not files:
        raise DataError("no records found: the data set names no Arrow files")
    said = ("a data set saved by `datasets` (Arrow files)", *([line] if line else []))
    return of_batches("arrow", files, said, "the data set", options)


def listing(paths: list[Path], asked: list[str] | None) -> dict[str, Any]:
    """What Arrow files hold beside their pictures. In the bounded process.

    Args:
        paths: Files of one split.
        asked: Columns whose values are needed, as `spelling.column_form` spells them; None for all.

    Returns:
        `image`: the picture column; `flat`: names of columns of single values; `several`: of
        columns of lists; `names`: of ClassLabel columns; `columns`: `Coded` texts; `batches`:
        (file, where, rows).

    Raises:
        DataError: A file cannot be read, or differs from the first.
    """
    import pyarrow as pa

    first: Any = None
    columns: dict[str, Coded] = {}
    batches: list[tuple[int, list[Any], int]] = []
    flat: list[str] = []
    for number, path in enumerate(paths):
        try:
            for where, batch in _batches(path):
                if first is None:
                    first = batch.schema
                    flat = flat_columns(first)
                    able = [*flat, *text_lists(first)]
                    columns = {n: Coded() for n in able if asked is None or column_form(n) in asked}
                if batch.schema.names != first.names:
                    raise DataError(
                        "the arrow files cannot be read together: give files with the same columns"
                    )
                if batch.num_rows:
                    batches.append((number, where, batch.num_rows))
                for name, held in columns.items():
                    held.add(map(lines_text, batch.column(name).to_pylist()))
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path.name} is not a readable arrow file: write it again") from None
    if first is None:
        raise DataError("no records found: the arrow files hold no rows")
    return packed_listing(first, columns, batches)


def _batches(path: Path):
    """(Where, record batch) of each one in a file of either form."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                yield ["file", i], reader.get_batch(i)
            return
        stream = pa.ipc.open_stream(source)
        while True:
            where = source.tell()
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                return
            yield ["stream", where], batch


def cell(path: Path, form: str, where: int, column: str, row: int) -> bytes:
    """One picture of an Arrow file. In the bounded process; BadImage with the rule."""
    import pyarrow as pa

    key = (str(path), form, where, column)
    if _held.get("key") != key:
        _held.clear()
        try:
            _held.update(column=_column(path, form, where, column), key=key)
        except FileNotFoundError:
            raise BadImage("missing file") from None
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, KeyError, IndexError, ValueError):
            raise BadImage("truncated or damaged") from None
    if row >= len(_held["column"]):
        raise BadImage("truncated or damaged")
    return picture_in(_held["column"][row].as_py(), path.parent)


def _column(path: Path, form: str, where: int, column: str):
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        if form == "file":
            return pa.ipc.open_file(source).get_batch(where).column(column)
        schema = pa.ipc.open_stream(source).schema
        source.seek(where)
        return pa.ipc.read_record_batch(pa.ipc.read_message(source), schema).column(column)
