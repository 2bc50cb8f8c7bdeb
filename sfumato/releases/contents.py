"""The allow-list: what a release may hold. Everything else is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from sfumato.bases import COMPONENT_SETTINGS
from sfumato.errors import SfumatoError
from sfumato.options.sharing import UNLABELLED
from sfumato.releases.credentials import CHUNK_TYPE
from sfumato.releases.formats import COLUMNS, check_parquet, check_png, check_safetensors
from sfumato.releases.marking import CHUNK
from sfumato.releases.shards import check_unread

DRAFT = "synthesis.json"
SUMS = "SHA256SUMS"
IMAGES = (
    r"train/[^/]+/\d{6,}\.png",
    r"(train/)?metadata\.jsonl",
    r"data/train-\d{5}-of-\d{5}\.parquet",
)
# pictures of a model's release, drawn beside the public base's
SAMPLES = "samples"
SAMPLE = re.compile(SAMPLES + r"/(adapted|base|noise-only)-\d{3}\.png")
SAMPLE_TABLE = SAMPLES + "/metadata.jsonl"
OF_EACH = {"file_name", "prompt", "seed"}  # columns of the table; the others are `drawn_by`
MOST_SAMPLES = 12  # of a row
MOST_STEPS = 1000  # of a sampler
ADAPTERS = ("pytorch_lora_weights.safetensors", "loda_weights.safetensors")


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
        SAMPLE.pattern,
        re.escape(SAMPLE_TABLE),
    )


class Words(TypedDict):
    """The labels and prompts that pictures may have."""

    classes: tuple[str, ...]
    prompts: tuple[str, ...]


def public_words(certificate: Mapping[str, Any]) -> Words:
    """What a certificate names as public, as arguments of `inspect_source`."""
    facts, settings = certificate["public_facts"], certificate["synthesis"]
    names = tuple(facts["classes"] or ())
    if names and settings.get("prompts_file"):
        names += (UNLABELLED,)
    return {
        "classes": names,
        "prompts": (*(facts["prompts"] or ()), *(settings.get("prompts") or ())),
    }


@dataclass(frozen=True)
class Example:
    """One picture of a source folder, as its pages show it.

    Attributes:
        image: The PNG's bytes.
        name: Its file; empty within a parquet file.
        prompt: The public prompt, if it is known.
        seed: The public seed, if it is known.
    """

    image: bytes
    name: str = ""
    prompt: str | None = None
    seed: int | None = None


@dataclass
class Contents:
    """What a source folder holds.

    Relative paths in order; for images, how many of each class; for a model, the diffusers class
    that opens it, the parts that it must be told to do `without`, whether it is told in words what
    to draw, or the rows of its classes by name, the words of its own, which of them are in files
    for two text encoders (file -> word, `shared`), and pictures of the adapted model (`adapted`)
    beside those of the public base (`base`), with how all were drawn (`drawn_by`; None in an export
    of an earlier version). `marked`: every image says
    that it is synthetic (`marking`); `signed`: and its owner has signed that (`credentials`).
    """

    kind: str
    files: list[str]
    layout: str = ""
    metadata: str | None = None
    per_class: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    pipeline: str = "DiffusionPipeline"  # which finds the class in the base's folder
    without: list[str] = field(default_factory=list)
    prompted: bool = True
    classes: dict[str, int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    shared: dict[str, str] = field(default_factory=dict)
    marked: bool = True
    signed: bool = True
    samples: dict[str, list[Example]] = field(default_factory=dict)
    drawn_by: dict[str, Any] | None = None

    @property
    def n(self) -> int:
        """How many images there are."""
        return sum(self.per_class.values())

    def load_into(self, pipeline: str | None) -> None:
        """Adapters and tokens go into that pipeline of the base; a whole pipeline says its own."""
        if pipeline is None or self.layout == "pipeline":
            return
        from sfumato.bases import reads_prompts  # here: pictures need no torch

        self.pipeline, self.prompted = pipeline, reads_prompts(pipeline)


def inspect_source(
    folder: Path,
    kind: str,
    *,
    classes: tuple[str, ...] = (),
    prompts: tuple[str, ...] = (),
    n: int | None = None,
    examples: int = 10,
    beside: Collection[str] = (),
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
        beside: Files that are no part of this list: the pages of a finished release.
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
        if path.is_dir() or name == DRAFT or name in beside:
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
        _check_samples(folder, found, prompts)
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


def _png_rows(folder: Path, found: Contents, pngs: list[str]) -> Iterator[tuple[str, Example]]:
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
        yield label, Example(data, name, row.get("prompt"), row.get("seed"))
    if left:
        raise SfumatoError(f"{len(left)} images have no line in metadata.jsonl, first {min(left)}")


def _parquet_rows(folder: Path, shards: list[str]) -> Iterator[tuple[str, Example]]:
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
        check_parquet(file, shard)
        check_unread(folder / shard, shard)
        names = _class_names(file.schema_arrow)
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                label, path = row["label"], row["image"]["path"]
                if path is not None and not re.fullmatch(r"\d{6,}\.png", path):
                    raise SfumatoError(
                        f"{shard} names an image other than by its number: synthesize again"
                    )
                check_png(row["image"]["bytes"], shard)
                shown = Example(row["image"]["bytes"], "", row.get("prompt"), row.get("seed"))
                yield names[label] if names else str(label), shown


def _class_names(schema) -> list[str] | None:
    """Class names from the `datasets` feature description in the file; None for labels as text."""
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return info.get("info", {}).get("features", {}).get("label", {}).get("names")


def _count(
    rows: Iterator[tuple[str, Example]],
    found: Contents,
    classes: tuple[str, ...],
    prompts: Collection[str],
    examples: int,
) -> None:
    prompts = frozenset(prompts)  # there may be many
    for label, shown in rows:
        if classes and label not in classes:
            raise SfumatoError(
                "an image has a label that is not a public class of the plan: synthesize again"
            )
        _require_public(shown.prompt, prompts)
        found.marked = found.marked and CHUNK in shown.image
        found.signed = found.signed and CHUNK_TYPE == shown.image[37:41]
        found.per_class[label] = found.per_class.get(label, 0) + 1
        if len(kept := found.examples.setdefault(label, [])) < examples:
            kept.append(shown)
    order = {name: i for i, name in enumerate(classes or sorted(found.per_class))}
    found.per_class = dict(sorted(found.per_class.items(), key=lambda item: order[item[0]]))


def _check_model(folder: Path, found: Contents) -> None:
    # here: pictures need no torch
    from sfumato.bases import (
        parts_without,
        pipeline_class,
        reads_prompts,
        shared_tokens,
        told_classes,
        words_in,
    )

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
        found.prompted = reads_prompts(found.pipeline)
        found.classes = told_classes(folder / "model")
        found.without = parts_without(folder / "model")
    for name in weights:
        check_safetensors(folder / name, name)
    found.words = words_in(folder / "model" if found.layout == "pipeline" else folder)
    found.shared = shared_tokens(folder)


def _require_public(prompt: str | None, prompts: Collection[str]) -> None:
    if prompts and prompt is not None and prompt not in prompts:
        raise SfumatoError(
            "an image has a prompt that is not a public prompt of the plan: synthesize again (a"
            " private caption must not leave)"
        )


def drawn_by(
    scheduler: str, steps: int, guidance: float, pipeline: str | None = None
) -> dict[str, Any]:
    """How samples were drawn, as their table says it; ValueError for what no sampler takes.

    `pipeline`: diffusers' class of the base, which adapters are loaded into.
    """
    from sfumato.bases import is_scheduler  # here: pictures need no torch

    known = isinstance(scheduler, str) and is_scheduler(scheduler)
    if not known or type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError("not the settings of a sampler")
    if type(guidance) is not float or not math.isfinite(guidance):
        raise ValueError("not a guidance")
    how = {"scheduler": scheduler, "steps": steps, "guidance": guidance}
    return how if pipeline is None else how | {"pipeline": known_pipeline(pipeline)}


def known_pipeline(kind: object) -> str | None:
    """The diffusers class of a base, or None where nobody named it; ValueError for another text."""
    if kind is None:
        return None
    from sfumato.bases import is_pipeline  # here: pictures need no torch

    if not isinstance(kind, str) or not is_pipeline(kind):
        raise ValueError("not a pipeline")
    return kind


def _check_samples(folder: Path, found: Contents, prompts: tuple[str, ...]) -> None:
    """Pictures that `export` drew: each with its line, plain pixels, and public prompts only."""
    pngs = [name for name in found.files if name.endswith(".png")]
    rule = SfumatoError(f"{SAMPLES}/ is not as `sfumato export` writes it: export again")
    if not pngs and SAMPLE_TABLE not in found.files:
        return
    try:
        lines = (folder / SAMPLE_TABLE).read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        named = [f"{SAMPLES}/{row['file_name']}" for row in rows]
        whole = all(type(row["seed"]) is int and 0 <= row["seed"] < 2**63 for row in rows)
        whole = whole and all(isinstance(row["prompt"], str) for row in rows)
        how = [{name: row[name] for name in row if name not in OF_EACH} for row in rows]
        if how[0]:  # exports of earlier versions do not say it
            found.drawn_by = drawn_by(**how[0])
            found.load_into(found.drawn_by.get("pipeline"))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise rule from None
    if not whole or sorted(named) != pngs or any(one != (found.drawn_by or {}) for one in how):
        raise rule
    for name, row in zip(named, rows):
        _require_public(row["prompt"], prompts)
        data = (folder / name).read_bytes()
        check_png(data, name)
        kind = re.fullmatch(SAMPLE, name)
        assert kind is not None  # the allow-list has seen it
        kept = found.samples.setdefault(kind[1], [])
        kept.append(Example(data, name, row["prompt"], row["seed"]))
    if any(len(kept) > MOST_SAMPLES for kept in found.samples.values()):
        raise rule
