"""Byte rules for each kind of file of a release: nothing beside the pixels or the tensors."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases.credentials import CHUNK_TYPE, check_box
from sfumato.releases.marking import CHUNK

COLUMNS = {"file_name", "image", "label", "prompt", "seed"}
MAX_HEADER = 100_000_000  # bytes, as in the format's own reader
PARQUET_KEYS = {b"huggingface", b"ARROW:schema", b"content_defined_chunking"}
WIDTH = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
}
SETTINGS = ("lora_adapter_metadata", "loda")  # JSON in the header of a safetensors file
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def check_png(data: bytes, name: str) -> None:
    """Refuses a PNG with text, EXIF, time or any other chunk beside the image, mark and signature.

    And bytes after its end. Pictures drawn before there was a mark have none.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise SfumatoError(f"{name} is not a PNG: synthesize again")
    at, marks, signatures = 8, 0, 0
    while at + 12 <= len(data):
        length, chunk = struct.unpack(">I4s", data[at : at + 8])
        if not marks and data[at : at + len(CHUNK)] == CHUNK:
            marks += 1
        elif chunk == CHUNK_TYPE and not signatures and at + 12 + length <= len(data):
            check_box(data, at, name)
            signatures += 1
        elif chunk not in PNG_CHUNKS:
            raise SfumatoError(
                f"{name} carries metadata (chunk {chunk.decode('latin-1')!r}); images are released"
                " with the mark of synthetic pictures alone"
            )
        at += 12 + length
        if chunk == b"IEND":
            break
    if at != len(data) or data[-8:-4] != b"IEND":
        raise SfumatoError(f"{name} is truncated or has bytes after its end: synthesize again")


def public_json(data: bytes) -> bytes:
    """A model's config without `_name_or_path`.

    diffusers and transformers write the path there from which it was read.
    """
    config = json.loads(data)
    if isinstance(config, dict) and "_name_or_path" in config:
        del config["_name_or_path"]
        return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return data


def check_safetensors(path: Path, name: str) -> None:
    """Refuses what is not just tensors.

    Other metadata than diffusers or a LoDA file has, bytes between or after tensors.
    """
    broken = SfumatoError(f"{name} is not a safetensors file; save it again")
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if not 2 <= size <= min(MAX_HEADER, path.stat().st_size - 8):
            raise broken
        try:
            header = json.loads(stream.read(size), object_pairs_hook=_once)
            metadata = header.pop("__metadata__", {})
            spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
            sizes = [
                math.prod(e["shape"]) * WIDTH[e["dtype"]]
                == e["data_offsets"][1] - e["data_offsets"][0]
                for e in header.values()
            ]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise broken from None
    ends = [0, *(end for _, end in spans)]
    if (
        not all(sizes)
        or [start for start, _ in spans] != ends[:-1]
        or ends[-1] != path.stat().st_size - 8 - size
    ):
        raise SfumatoError(f"{name} has bytes that belong to no tensor: save it again")
    known = {"format", *SETTINGS} | ({"token"} if _names_token(name, metadata) else set())
    if not set(metadata) <= known or metadata.get("format", "pt") != "pt":
        raise SfumatoError(f"{name} carries metadata beside its format: save it again without")
    try:
        settings = [
            json.loads(metadata.get(key, "{}"), object_pairs_hook=_once) for key in SETTINGS
        ]
    except (ValueError, TypeError):
        raise broken from None
    if not _harmless(settings):
        raise SfumatoError(
            f"{name} has a text in its adapter settings that is not a module name: save it again"
        )


def _names_token(name: str, metadata: dict) -> bool:
    """Whether a file of token vectors names its token, one word, where tensors cannot.

    Their names are those of text encoders. The word is one of the release's own, as a tensor's name
    is in other files of tokens.
    """
    word = metadata.get("token")
    return (
        name.startswith("learned_embeds")
        and isinstance(word, str)
        and word.isprintable()
        and re.fullmatch(r"\S{2,100}", word) is not None
    )


def _once(pairs: list[Any]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _harmless(value) -> bool:
    """Numbers, and words as settings and module names are: no sentence, no path."""
    if isinstance(value, dict):
        return all(_harmless(key) and _harmless(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_harmless, value))
    return not isinstance(value, str) or bool(re.fullmatch(r"[\w.^$-]{0,100}", value))


def check_parquet(file, shard: str) -> None:
    """Refuses metadata that `datasets` does not need; types are image, text and number only."""
    import pyarrow as pa

    schema, text = file.schema_arrow, (pa.string(), pa.large_string())
    extra = {*(schema.metadata or {}), *(file.metadata.metadata or {})} - PARQUET_KEYS
    if extra or any(field.metadata for field in schema):
        raise SfumatoError(
            f"{shard} carries metadata beside the features of its columns; synthesize it again"
        )
    picture = (
        {field.name for field in schema.field("image").type}
        if pa.types.is_struct(schema.field("image").type)
        else {}
    )
    types = {"label": (*text, pa.int64()), "prompt": text, "seed": (pa.int64(),)}
    if picture != {"bytes", "path"} or any(
        schema.field(name).type not in types[name] for name in schema.names if name in types
    ):
        raise SfumatoError(
            f"{shard} has a column of another type than `sfumato synthesize` writes; synthesize it"
            " again"
        )
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        kept = set(features) <= {"info"} and set(features.get("info", {})) <= {"features"}
        columns = features.get("info", {}).get("features", {})
        kept = (
            kept
            and set(columns) <= COLUMNS
            and all(set(v) <= {"_type", "dtype", "names"} for v in columns.values())
        )
        kept = kept and all(v.get("dtype") in (None, "string", "int64") for v in columns.values())
    except (ValueError, TypeError, AttributeError):
        kept = False
    if not kept:
        raise SfumatoError(
            f"{shard} carries metadata beside the features of its columns; synthesize it again"
        )
