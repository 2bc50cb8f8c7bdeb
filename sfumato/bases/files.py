"""The files of a base, listed in one way for all code that checks, names or compares them.

Nothing is skipped silently.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import MachineError, ModelError
from .weights import check_settings

READ = {".safetensors", ".json", ".txt", ".md"}  # what a component is made of
# Of a tokenizer also: vocabularies of SentencePiece, and how a chat is written, which the
# transformers library fills in within a sandbox.
READ_OF_TOKENIZERS = READ | {".model", ".jinja"}
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
# Weights of other libraries, as ordinary downloads hold them beside safetensors.
FOREIGN = {".msgpack", ".onnx", ".onnx_data", ".h5", ".ot", ".pb", ".tflite", ".xml"}
INDEX = re.compile(r"\.index(\.[^.]+)?\.json$")  # of plain weights, or of a variant
# What a pipeline's components are saved as, beside their weights and the weights' index.
COMPONENT_SETTINGS = (
    "config.json",
    "generation_config.json",
    "scheduler_config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)

_OF_DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini", ".directory")


def left_by_system(path: Path) -> bool:
    """Whether a file is one that a desktop leaves in folders it shows: no identity holds it."""
    return path.name in _OF_DESKTOPS or path.name.startswith("._")


def base_files(folder: Path) -> list[Path]:
    """Every file below `folder`, in name order.

    A link to a file is the file, as in the model hub's cache.

    ModelError for a linked folder, a dead link, what is no file, and a folder that does not read:
    loaders would follow where nobody looked.
    """
    found: list[Path] = []
    try:
        for place, folders, files in os.walk(folder, onerror=_raise):
            for path in (Path(place, name) for name in folders):
                if path.is_symlink():
                    raise ModelError(
                        f"{path.relative_to(folder)} in {folder} is a link to a folder: put a copy"
                        " of the folder there"
                    )
            for path in (Path(place, name) for name in files):
                if not stat.S_ISREG(path.stat().st_mode):
                    raise ModelError(
                        f"{path.relative_to(folder)} in {folder} is no file: remove it"
                    )
                found.append(path)
    except OSError as error:
        where = Path(error.filename or folder).name
        raise ModelError(
            f"{where} in {folder} cannot be read: fetch the base again, or remove what is a dead"
            " link"
        ) from error
    return sorted(found)


def weight_files(place: Path) -> list[Path]:
    """The safetensors files of a base, or the one file that `place` is."""
    return (
        [place] if place.is_file() else [p for p in base_files(place) if p.suffix == ".safetensors"]
    )


def unread_files(folder: Path) -> list[str]:
    """Names of files with weights that nothing opens: pickles, and weights of other libraries."""
    return [
        path.relative_to(folder).as_posix()
        for path in base_files(folder)
        if path.suffix.lower() in PICKLED | FOREIGN
    ]


def check_kinds(folder: Path, components: set[str]) -> None:
    """Refuses code anywhere, and unknown files in a component's folder. ModelError.

    Also whatever sends a component's loader to another file. Pickles are not opened: one in place
    of a component's safetensors is refused, and any other lies unread.
    """
    held = base_files(folder)
    safe = {path.parent for path in held if path.suffix == ".safetensors"}
    for path in held:
        name = path.relative_to(folder)
        if path.suffix.lower() in PICKLED and name.parts[0] in components:
            if path.parent not in safe:
                raise ModelError(
                    f"{path.name} in {folder} is a pickle, which can run code: convert the base to"
                    " safetensors (save_pretrained with safe_serialization=True) and remove it"
                )
            continue
        if path.suffix == ".py":
            raise ModelError(
                f"{folder} carries code of its own ({path.name}): sfumato runs none of it"
            )
        if INDEX.search(path.name.lower()) and not _of_pickles(path, safe):
            _check_index(path)
        if name.parts[0] not in components or (path.suffix in FOREIGN and path.parent in safe):
            continue
        read = READ_OF_TOKENIZERS if name.parts[0].startswith("tokenizer") else READ
        if path.suffix not in read:
            raise ModelError(
                f"{name} of {folder} is none of {', '.join(sorted(read))}: remove it; weights are"
                " read from safetensors alone"
            )
        if path.name == "adapter_config.json":
            raise ModelError(
                f"{name} of {folder} sends its loader to another model: merge the adapter and save"
                " the base again"
            )


def _of_pickles(path: Path, safe: set[Path]) -> bool:
    """Whether an index is of pickled weights beside safetensors, so that no loader reads it."""
    return ".bin.index" in path.name.lower() and path.parent in safe


def _check_index(path: Path) -> None:
    """ModelError unless every shard is a safetensors file beside the index."""
    shards = check_settings(path).get("weight_map")
    names: list[Any] = list(shards.values()) if isinstance(shards, dict) else [None]
    for name in names:
        plain = isinstance(name, str) and name == os.path.basename(name) and "\\" not in name
        if not (plain and name.endswith(".safetensors") and path.with_name(name).is_file()):
            raise ModelError(
                f"{path.parent.name}/{path.name} names a part that is no safetensors file beside"
                " it: save the base again as safetensors"
            )


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yields a folder to write in place of a new one, which is there only once it is whole.

    MachineError where it cannot be written.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        yield part
        part.rename(folder)
    except OSError as error:
        raise MachineError(
            f"cannot write {folder}: {error.strerror or error}; free some space or choose another"
            " disk"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _raise(error: OSError) -> None:
    raise error
