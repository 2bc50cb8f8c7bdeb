"""The allow-list: what a release may hold, and byte rules for each kind of file.

Everything else is refused.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sfumato.bases import COMPONENT_SETTINGS
from sfumato.errors import SfumatoError
from sfumato.releases.marking import CHUNK

DRAFT = "synthesis.json"
SUMS = "SHA256SUMS"
IMAGES = (
    r"train/[^/]+/\d{6,}\.png",
    r"(train/)?metadata\.jsonl",
    r"data/train-\d{5}-of-\d{5}\.parquet",
)
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
ADAPTERS = ("pytorch_lora_weights.safetensors", "loda_weights.safetensors")
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def model_files() -> tuple[str, ...]:
    """Patterns of the files that a model's release may hold: adapters, tokens, a pipeline."""
    from sfumato.bases import component_folders  # loads torch, which pictures do not need

    folders = "|".join((*component_folders(), "feature_extractor"))
    settings = "|".join(map(re.escape, COMPONENT_SETTINGS))
    return (
        r"pytorch_lora_weights\.safetensors",
        r"lora_kohya\.safetensors",
        r"loda_weights\.safetensors",
        r"learned_embeds(-\d{3})?\.safetensors",
        r"model/model_index\.json",
        rf"model/({folders})/([\w.-]+\.safetensors(\.index\.json)?|{settings})",
    )


@dataclass
class Contents:
    """What a source folder holds.

    Relative paths in order; for images, how many of each class; for a model, the diffusers class
    that opens it, whether it is told in words what to draw, and the words of its own. `marked`:
    every image says that it is synthetic (`marking`).
    """

    kind: str
    files: list[str]
    layout: str = ""
    metadata: str | None = None
    per_class: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[bytes]] = field(default_factory=dict)
    pipeline: str = "StableDiffusionPipeline"
    prompted: bool = True
    words: list[str] = field(default_factory=list)
    marked: bool = True

    @property
    def n(self) -> int:
        """How many images there are."""
        return sum(self.per_class.values())


def inspect_source(
    folder: Path,
    kind: str,
    *,
    classes: tuple[str, ...] = (),
    prompts: tuple[str, ...] = (),
    n: int | None = None,
    examples: int = 10,
) -> Contents:
    """Checks every file of a folder made by synthesis or adaptation; SfumatoError names the rule.

    Args:
        folder: The folder.
        kind: "images" or "model".
        classes: Public; a label that is none of them is refused, since it could be a private
            caption.
        prompts: Public; likewise.
        n: The number of images that was asked for.
        examples: How many images of each class are kept.
    """
    if kind not in ("images", "model"):
        raise SfumatoError(f"a release holds 'images' or 'model', not {kind!r}")
    if not folder.is_dir():
        raise SfumatoError(f"{folder.name} is not a folder: make one with `sfumato synthesize`")
    rules = [re.compile(rule) for rule in (IMAGES if kind == "images" else model_files())]
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise SfumatoError(f"{name} is a link, and a release holds plain files only: remove it")
        if path.is_dir() or name == DRAFT:
            continue
        if name == SUMS:
            raise SfumatoError(
                f"{folder.name} is already a finished release: synthesize into a new folder to make"
                " another"
            )
        if not any(rule.fullmatch(name) for rule in rules):
            raise SfumatoError(
                f"{name} is not on the list of files a release of {kind} may hold: remove it"
            )
        files.append(name)
    found = Contents(kind, files)
    if kind == "model":
        _check_model(folder, found)
        return found
    shards = [f for f in files if f.endswith(".parquet")]
    pngs = [f for f in files if f.endswith(".png")]
    if bool(shards) == bool(pngs):
        raise SfumatoError(
            "a release holds either train/<class>/*.png or data/*.parquet, with at least one image"
        )
    found.layout = "parquet" if shards else "imagefolder"
    rows = _parquet_rows(folder, shards) if shards else _png_rows(folder, found, pngs)
    _count(rows, found, classes, prompts, examples)
    if n is not None and found.n != n:
        raise SfumatoError(
            f"the folder holds {found.n} of the {n} images asked for; finish `sfumato synthesize`"
            " first"
        )
    return found


def check_png(data: bytes, name: str) -> None:
    """Refuses a PNG with text, EXIF, time or any other chunk beside the image and the mark.

    And bytes after its end. Pictures drawn before there was a mark have none.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise SfumatoError(f"{name} is not a PNG: synthesize again")
    at, marks = 8, 0
    while at + 12 <= len(data):
        length, chunk = struct.unpack(">I4s", data[at : at + 8])
        if not marks and data[at : at + len(CHUNK)] == CHUNK:
            marks += 1
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


def _png_rows(
    folder: Path, found: Contents, pngs: list[str]
) -> Iterator[tuple[str, str | None, bytes]]:
    tables = [f for f in found.files if f.endswith("metadata.jsonl")]
    if len(tables) != 1:
        raise SfumatoError(
            "a folder of images needs exactly one metadata.jsonl, at its top or in train/"
        )
    found.metadata, top = tables[0], PurePosixPath(tables[0]).parent
    left, folder_of = set(pngs), {}
    for number, line in enumerate((folder / found.metadata).read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            name, label = str(top / row["file_name"]), str(row["label"])
        except (ValueError, KeyError, TypeError):
            raise SfumatoError(
                f"metadata.jsonl line {number} needs a file_name and a label"
            ) from None
        if not set(row) <= COLUMNS:
            raise SfumatoError(
                f"metadata.jsonl line {number} has a column beside file_name, label, prompt and"
                " seed; remove it"
            )
        if name not in left:
            raise SfumatoError(
                f"metadata.jsonl line {number} names an image that is missing or named twice"
            )
        left.discard(name)
        if folder_of.setdefault(PurePosixPath(name).parent.name, label) != label:
            raise SfumatoError(f"metadata.jsonl line {number}: one class folder holds two labels")
        data = (folder / name).read_bytes()
        check_png(data, name)
        yield label, row.get("prompt"), data
    if left:
        raise SfumatoError(f"{len(left)} images have no line in metadata.jsonl, first {min(left)}")


def _parquet_rows(folder: Path, shards: list[str]) -> Iterator[tuple[str, str | None, bytes]]:
    import pyarrow.parquet as pq

    if shards != [f"data/train-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]:
        raise SfumatoError(
            f"data/ holds {len(shards)} shards that are not a whole set; finish `sfumato"
            " synthesize` first"
        )
    for shard in shards:
        file = pq.ParquetFile(folder / shard)
        columns = set(file.schema_arrow.names)
        if not {"image", "label"} <= columns <= COLUMNS:
            raise SfumatoError(f"{shard} has a column beside image, label, prompt and seed")
        _check_parquet(file, shard)
        names = _class_names(file.schema_arrow)
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                label, path = row["label"], row["image"]["path"]
                if path is not None and not re.fullmatch(r"\d{6,}\.png", path):
                    raise SfumatoError(
                        f"{shard} names an image other than by its number: synthesize again"
                    )
                check_png(row["image"]["bytes"], shard)
                yield (
                    names[label] if names else str(label),
                    row.get("prompt"),
                    row["image"]["bytes"],
                )


def _class_names(schema) -> list[str] | None:
    """Class names from the `datasets` feature description in the file; None for labels as text."""
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return info.get("info", {}).get("features", {}).get("label", {}).get("names")


def _count(
    rows: Iterator[tuple[str, str | None, bytes]],
    found: Contents,
    classes: tuple[str, ...],
    prompts: tuple[str, ...],
    examples: int,
) -> None:
    for label, prompt, data in rows:
        if classes and label not in classes:
            raise SfumatoError(
                "an image has a label that is not a public class of the plan: synthesize again"
            )
        if prompts and prompt is not None and prompt not in prompts:
            raise SfumatoError(
                "an image has a prompt that is not a public prompt of the plan: synthesize again (a"
                " private caption must not leave)"
            )
        found.marked = found.marked and CHUNK in data
        found.per_class[label] = found.per_class.get(label, 0) + 1
        if len(kept := found.examples.setdefault(label, [])) < examples:
            kept.append(data)
    order = {name: i for i, name in enumerate(classes or sorted(found.per_class))}
    found.per_class = dict(sorted(found.per_class.items(), key=lambda item: order[item[0]]))


def _check_model(folder: Path, found: Contents) -> None:
    from sfumato.bases import (
        pipeline_class,
        reads_prompts,
        words_in,
    )  # here: pictures need no torch

    weights = [f for f in found.files if f.endswith(".safetensors")]
    if not weights:
        raise SfumatoError(
            "a model release needs pytorch_lora_weights.safetensors, loda_weights.safetensors,"
            " learned_embeds.safetensors or model/"
        )
    whole = any(f.startswith("model/") for f in found.files)
    # adapters before the tokens beside them
    first = next((f for f in weights if f in ADAPTERS), weights[0])
    found.layout = "pipeline" if whole else PurePosixPath(first).stem
    if found.layout.startswith("learned_embeds"):
        found.layout = "learned_embeds"
    if found.layout == "pipeline" and "model/model_index.json" not in found.files:
        raise SfumatoError(
            "model/ has no model_index.json, so diffusers cannot open it; save the pipeline again"
        )
    if found.layout == "pipeline":
        found.pipeline = pipeline_class(folder / "model") or found.pipeline
        found.prompted = reads_prompts(folder / "model")
    for name in weights:
        check_safetensors(folder / name, name)
    found.words = words_in(folder / "model" if found.layout == "pipeline" else folder)


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
    if not set(metadata) <= {"format", *SETTINGS} or metadata.get("format", "pt") != "pt":
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


def _check_parquet(file, shard: str) -> None:
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
