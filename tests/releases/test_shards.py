"""A shard holds its rows and nothing that only a hex editor shows."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sfumato.errors import SfumatoError
from sfumato.releases import marked_png
from sfumato.releases.contents import inspect_source
from sfumato.synthesis.dataset import _Parquet

PROMPT = "a picture of a cat"


def picture(i: int) -> bytes:
    return marked_png(np.full((8, 8, 3), i % 256, np.uint8))


@pytest.fixture
def shard(tmp_path):
    (tmp_path / "s").mkdir()
    writer = _Parquet(tmp_path / "s", 600, (0, 1))
    for i in range(600):
        writer.add(i, picture(i), "cat" if i % 2 else "dog", PROMPT, i % 2, i)
    writer.close()
    (found,) = (tmp_path / "s").rglob("*.parquet")
    return found


def look(shard, n: int):
    return inspect_source(shard.parents[1], "images", classes=("cat", "dog"), n=n)


def test_what_synthesize_writes_passes(shard):
    assert look(shard, 600).marked


@pytest.mark.parametrize("column", ["image", "label", "prompt"])
def test_what_removed_rows_leave_behind_is_refused(shard, column):
    """As a user's own script does it: dictionary-encoded, filtered, written again."""
    table = pq.read_table(shard)
    kept = table.filter(pc.less(table["seed"], 10))
    whole = table[column].combine_chunks()
    if column == "image":
        data = pc.dictionary_encode(whole.field("bytes"))
        inner = [data.slice(0, 10), whole.field("path").slice(0, 10)]
        left = pa.StructArray.from_arrays(inner, ["bytes", "path"])
    elif column == "label":
        words = pa.array(["cat", "dog", "removed patient"])
        left = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5), words)
    else:
        left = pa.DictionaryArray.from_arrays(pa.array([0] * 10), pa.array([PROMPT, "ward 7"]))
    kept = kept.set_column(kept.column_names.index(column), column, left)
    plain = kept.replace_schema_metadata(table.schema.metadata)
    pq.write_table(plain, shard, store_schema=False)
    with pytest.raises(SfumatoError, match="values that none of its rows has"):
        look(shard, 10)


def test_bytes_that_belong_to_no_column_are_refused(shard):
    data = shard.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    shard.write_bytes(data[:-footer] + b"ward 7" + data[-footer:])
    assert pq.read_table(shard).num_rows == 600  # readers do not mind
    with pytest.raises(SfumatoError, match="bytes that belong to no column"):
        look(shard, 600)


def test_an_index_of_pages_as_datasets_writes_it_passes(shard):
    table, into = pq.read_table(shard), io.BytesIO()
    pq.write_table(table, into, write_page_index=True)
    shard.write_bytes(into.getvalue())
    assert look(shard, 600).n == 600


def test_a_shard_of_several_row_groups_passes(shard):
    table, into = pq.read_table(shard), io.BytesIO()
    pq.write_table(table, into, row_group_size=100)
    shard.write_bytes(into.getvalue())
    assert look(shard, 600).n == 600
