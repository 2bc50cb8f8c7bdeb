"""Small pictures, tables and COCO files that tests of layouts make."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.records import load_records

SECRET = "Jane Roe"


def pixels(seed: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def png(seed: int, side: int = 16) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(out, "PNG")
    return out.getvalue()


def put(place: Path, data: bytes | str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data.encode() if isinstance(data, str) else data)
    return place


def pictures(root: Path, n: int = 4, first: int = 0) -> None:
    for i in range(first, first + n):
        put(root / f"{i}.png", png(i))


def table(root: Path, *rows: str, head: str = "file_name,label,who") -> None:
    put(root / "metadata.csv", "\n".join([head, *rows]))


def refused(why: str, *args, **options) -> str:
    with pytest.raises(SfumatoError, match=re.escape(why)) as caught:
        load_records(*args, **options)
    said = str(caught.value)
    assert "\n" not in said and caught.value.exit_code in (2, 10) and SECRET not in said
    return said


def coco(root: Path, n: int = 3, kinds: tuple[str, ...] = ("cat", "dog"), **more) -> Path:
    images = [{"id": i, "file_name": f"{i}.png", "who": f"P{i // 2}"} for i in range(n)]
    objects = [
        {"id": 2 * i + k, "image_id": i, "category_id": k, "bbox": [k, k, 12 + k, 12]}
        for i in range(n)
        for k in range(len(kinds))
    ]
    body = {"images": images, "annotations": objects, "categories": []} | more
    body["categories"] = [{"id": k, "name": name} for k, name in enumerate(kinds)]
    return put(root / "coco.json", json.dumps(body))
