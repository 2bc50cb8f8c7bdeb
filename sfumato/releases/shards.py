"""What of a parquet shard no reader sees: bytes between columns, values that no row has.

Removing rows leaves their names, and their pictures, in the dictionary of the written file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sfumato.errors import SfumatoError

COLUMNS = {
    "image.bytes": ("image", "bytes"),
    "image.path": ("image", "path"),
    "label": ("label", None),
    "prompt": ("prompt", None),
}
HEAD, TAIL = 4, 8  # bytes: the name of the format, then the length of the footer and the name again
ROWS = 256  # at a time


def check_unread(path: Path, shard: str) -> None:
    """Refuses a shard that holds more than its rows.

    Args:
        path: The file.
        shard: What it is called.

    Raises:
        SfumatoError: Bytes that belong to no column, or values in a dictionary that no row has.
    """
    import pyarrow.parquet as pq

    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(-TAIL, 2)
        footer = int.from_bytes(stream.read(4), "little")
    about = pq.read_metadata(path)
    spans, indexed = [], False
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            column = about.row_group(group).column(number)
            starts = (column.dictionary_page_offset, column.data_page_offset)
            start = min(place for place in starts if place)
            spans.append((start, start + column.total_compressed_size))
            indexed = indexed or column.has_offset_index or column.has_column_index
    ends = [HEAD, *(end for _, end in sorted(spans))]
    # Behind the columns there may be an index of their pages: `datasets` writes one, we do not.
    whole = ends[-1] == size - TAIL - footer or (indexed and ends[-1] < size - TAIL - footer)
    if [start for start, _ in sorted(spans)] != ends[:-1] or not whole:
        raise SfumatoError(f"{shard} has bytes that belong to no column: synthesize again")
    names = [name for name in COLUMNS if name.split(".")[0] in about.schema.to_arrow_schema().names]
    for group in range(about.num_row_groups):
        if _unheld(path, group, names):
            raise SfumatoError(
                f"{shard} holds values that none of its rows has, as removed rows leave them:"
                " synthesize again"
            )


def _unheld(path: Path, group: int, names: list[str]) -> bool:
    """Whether a dictionary of a row group has a value that no row of the group has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    left: dict[str, set[bytes]] = {}
    # The first batch shows the whole page of the dictionary; later ones would add up all values.
    with pq.ParquetFile(path, read_dictionary=names) as file:
        for batch in file.iter_batches(ROWS, row_groups=[group]):
            for name in names:
                values = _column(batch, name)
                if pa.types.is_dictionary(values.type):
                    left[name] = _digests(values.dictionary)
            break
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, row_groups=[group]):
            for name in [name for name in left if left[name]]:
                values = _column(batch, name)
                dictionary = pa.types.is_dictionary(values.type)
                left[name] -= _digests(values.dictionary_decode() if dictionary else values)
            if not any(left.values()):
                return False
    return any(left.values())


def _column(batch, name: str):
    outer, inner = COLUMNS[name]
    values = batch.column(outer)
    return values if inner is None else values.field(inner)


def _digests(values) -> set[bytes]:
    return {
        hashlib.sha256(v.encode() if isinstance(v, str) else v).digest()
        for v in values.to_pylist()
        if v is not None
    }
