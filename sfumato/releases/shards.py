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
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(-TAIL, 2)
        footer = int.from_bytes(stream.read(4), "little")
    about = pq.read_metadata(path)
    spans = []
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            column = about.row_group(group).column(number)
            starts = (column.dictionary_page_offset, column.data_page_offset)
            start = min(place for place in starts if place)
            spans.append((start, start + column.total_compressed_size))
    ends = [HEAD, *(end for _, end in sorted(spans))]
    if [start for start, _ in sorted(spans)] != ends[:-1] or ends[-1] != size - TAIL - footer:
        raise SfumatoError(f"{shard} has bytes that belong to no column: synthesize again")
    names = [name for name in COLUMNS if name.split(".")[0] in about.schema.to_arrow_schema().names]
    listed: dict[str, set[bytes]] = {name: set() for name in names}
    held: dict[str, set[bytes]] = {name: set() for name in names}
    seen: dict[str, object] = {}
    with pq.ParquetFile(path, read_dictionary=names) as file:
        # group by group: a batch of two groups would have two dictionaries
        groups = range(about.num_row_groups)
        for batch in (one for g in groups for one in file.iter_batches(ROWS, row_groups=[g])):
            for name in names:
                column, inner = COLUMNS[name]
                values = batch.column(column)
                values = values if inner is None else values.field(inner)
                if not pa.types.is_dictionary(values.type):
                    continue  # each value stands once for each row
                words = values.dictionary
                held[name] |= _digests(words.take(values.indices.unique().drop_null()))
                if words is not seen.get(name):
                    listed[name] |= _digests(words)
                    seen[name] = words
    if any(listed[name] - held[name] for name in names):
        raise SfumatoError(
            f"{shard} holds values that none of its rows has, as removed rows leave them:"
            " synthesize again"
        )


def _digests(values) -> set[bytes]:
    return {
        hashlib.sha256(v.encode() if isinstance(v, str) else v).digest()
        for v in values.to_pylist()
        if v is not None
    }
