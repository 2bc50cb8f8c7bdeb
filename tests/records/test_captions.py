"""Several captions of one image: a list in a cell, or lines of one."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.records import load_records
from sfumato.training.texts import captions_of

LISTS = [["a ring", "one\nring "], ["a cross"], [], ["x", "", None, "y"], ["z"], ["z", "z"]]
READ = [["a ring", "one ring"], ["a cross"], [], ["x", "y"], ["z"], ["z", "z"]]


def png(i: int) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def json_lines(root):
    rows = []
    for i, captions in enumerate(LISTS):
        (root / f"{i}.png").write_bytes(png(i))
        rows.append({"file_name": f"{i}.png", "label": "ab"[i % 2], "captions": captions})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def parquet(root):
    cells = [{"bytes": png(i), "path": None} for i in range(len(LISTS))]
    labels = ["ab"[i % 2] for i in range(len(LISTS))]
    kind = pa.list_(pa.string())
    found = pa.table({"image": cells, "label": labels, "captions": pa.array(LISTS, kind)})
    pq.write_table(found, root / "train-00000-of-00001.parquet")


@pytest.mark.parametrize("write", [json_lines, parquet])
def test_a_list_of_texts_holds_several_captions(write, tmp_path):
    write(tmp_path)
    records = load_records(tmp_path, classes=["a", "b"], caption_column="captions")
    assert [captions_of(cell) for cell in records.captions] == READ
    for flag in ("labels", "unit"):
        with pytest.raises(
            SfumatoError, match="a list for each image|several labels|no column label"
        ):
            load_records(tmp_path, classes=["a", "b"], **{flag: "captions"})
