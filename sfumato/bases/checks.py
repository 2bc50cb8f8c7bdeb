"""Checks of a pipeline folder before a library opens anything in it.

And the facts that its files state without their weights.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..errors import ModelError
from . import weights
from .files import (
    FOREIGN,
    PICKLED,
    base_files,
    check_kinds,
    left_by_system,
    unread_files,
    weight_files,
)
from .interface import Base, Prediction
from .weights import WIDTH, check_extent, check_settings, check_weights

INDEX_FILE = "model_index.json"
# Beside the model: its card, and hashes of its training pictures (records/looks.py).
BESIDE = ("README.md", "training-pictures.npz")
CODE = {"auto_map", "custom_pipelines", "trust_remote_code"}


def check_folder(folder: Path, index: dict, family: type[Base]) -> None:
    """Refuses what is no pipeline of this family, of safetensors and plain settings alone.

    ModelError. `index`: the folder's model index.
    """
    check_kinds(folder, set(family.components))
    for path in weight_files(folder):
        check_weights(path)
    models = {name for name in family.components if not name.startswith("tokenizer")}
    for path in (p for p in base_files(folder) if p.name.endswith("config.json")):
        if path.parent.name in models:
            check_extent(path)
        if CODE & set(check_settings(path)):
            raise ModelError(
                f"{path.relative_to(folder)} of {folder} asks for code of its own: sfumato runs"
                " none of it"
            )
        if "transformers_weights" in check_settings(path):
            raise ModelError(
                f"{path.relative_to(folder)} of {folder} names another file for its weights: save"
                " the base again"
            )
    _check_components(folder, index, family)


def _check_components(folder: Path, index: dict, family: type[Base]) -> None:
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        library, cls = (value + [None, None])[:2]
        if cls is None or name in family.optional:
            continue
        if not isinstance(cls, str) or not isinstance(library, str):
            raise ModelError(
                f"{folder} names no class for its component {name}: fetch the base again"
            )
        if name not in family.components or library not in ("diffusers", "transformers"):
            raise ModelError(
                f"{folder} has a component {name} ({library}.{cls}) that sfumato does not know"
            )
        allowed = family.components[name]
        if allowed is not None and cls not in allowed:
            raise ModelError(
                f"{name} of {folder} is a {cls}; sfumato takes {' or '.join(sorted(allowed))}"
            )
        if allowed is None and not (library == "diffusers" and cls.endswith("Scheduler")):
            raise ModelError(f"{name} of {folder} is a {library}.{cls}, not a diffusers scheduler")
    for name in family.components:
        if name in family.dispensable and index.get(name, [None])[:1] == [None]:
            continue
        if not (folder / name).is_dir() or name not in index:
            raise ModelError(
                f"{folder} has no {name}: a {index['_class_name']} folder holds"
                f" {', '.join(family.components)}"
            )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, in name order.

    Without what no loader reads: `BESIDE`, pickles, and weights of other libraries beside
    safetensors.
    """
    digest = hashlib.sha256()
    held = base_files(folder)
    safe = {path.parent for path in held if path.suffix == ".safetensors"} - {folder}
    for path in held:
        # what no loader opens is in no digest, and is not opened for one
        if path.name in BESIDE or left_by_system(path) or path.suffix.lower() in PICKLED:
            continue
        if path.suffix.lower() in FOREIGN and path.parent in safe:
            continue
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(digest_of_file(path))
    return digest.hexdigest()


def digest_of_file(path: Path) -> bytes:
    """SHA-256 of a file, which is read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def facts_of_files(folder: Path) -> dict:
    """The fields of `BaseInfo` that are the same for all families.

    Licence, parameters, size, and how to compute the digest.
    """
    # A component may hold its weights twice, in two precisions: a tensor's name counts once, as it
    # is read (the plain file comes after its variants).
    tensors = {
        (path.parent, name): entry
        for path in weight_files(folder)
        if path.parent != folder  # a whole model in one file, as downloads hold it beside the parts
        for name, entry in check_weights(path).items()
        if entry["dtype"] != "I64"
    }
    return {
        "folder": folder,
        "licence": _licence(folder / "README.md"),
        "parameters": sum(math.prod(entry["shape"]) for entry in tensors.values()),
        "held": _bytes_in_memory(tensors),
        "size": sum(
            path.stat().st_size
            for path in base_files(folder)
            if path.suffix.lower() not in PICKLED | FOREIGN
        ),
        "unread": tuple(unread_files(folder)),
        "digest_of": lambda: folder_digest(folder),
    }


def _bytes_in_memory(tensors: Mapping[tuple[Path, str], dict]) -> int:
    """Bytes of weights as they are held: matrices of large parts as they are stored, else 4 each.

    Args:
        tensors: (part, name) -> its entry in the header of its file.
    """
    size: Counter[Path] = Counter()
    for (part, _), entry in tensors.items():
        size[part] += WIDTH[entry["dtype"]] * math.prod(entry["shape"])
    return sum(
        math.prod(entry["shape"])
        * (
            2
            if WIDTH[entry["dtype"]] == 2
            and size[part] >= weights.LEAST
            and len(entry["shape"]) > 1
            else 4
        )
        for (part, _), entry in tensors.items()
    )


def _licence(card: Path) -> str | None:
    """`license:` in the head of a model card; None if there is no readable one."""
    try:
        lines = card.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    head = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    said = [line.partition(":")[2].strip() for line in head if line.startswith("license:")]
    return said[0] if said and said[0] and said[0].isprintable() and len(said[0]) < 100 else None


def prediction_of(folder: Path, *more: Prediction) -> Prediction:
    """What the denoiser of a pipeline with a diffusers scheduler predicts.

    ModelError for anything but noise, velocity, and what the family takes `more`.
    """
    settings = check_settings(folder / "scheduler" / "scheduler_config.json")
    kind, taken = settings.get("prediction_type", "epsilon"), ("epsilon", "v_prediction", *more)
    if kind not in taken:
        raise ModelError(f"{folder} predicts {str(kind)[:60]}; sfumato takes {' or '.join(taken)}")
    return kind


def whole(path: Path, settings: dict, name: str, default: int) -> int:
    """A count from a model's settings; ModelError if it is none."""
    value = settings.get(name, default)
    if type(value) is not int or value < 1:
        raise ModelError(
            f"{path.parent.name}/{path.name}: {name} is no number above 0: fetch the base again"
        )
    return value
