"""A base given as what `export` wrote: a folder around a pipeline, or adapters or tokens that go
onto the bundled base they were made for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError
from .contents import blocks_of_files
from .loda import LODA_FILE, open_adapted
from .pipeline import Base, bundled_bases, folder_digest, load_pipeline, resolve_base
from .saving import LORA_FILE
from .vectors import embeds_files

CERTIFICATES = ("privacy.json", "synthesis.json")


def load_base(name_or_path: str | Path) -> Base:
    """Open a bundled base by name, a local StableDiffusionPipeline folder, or a folder of `sfumato
    export`: its pipeline, or its LoRA or tokens on the base that they name.

    Raises ModelError as `load_pipeline`, and where adapters were made for a base that is not
    bundled: only its last name is known, so it cannot be found.
    """
    folder = resolve_base(name_or_path)
    added = _added(folder)
    if not added:
        return load_pipeline(name_or_path)
    origin = _origin(folder)
    base = open_adapted(folder, lambda: load_pipeline(origin))
    digest = hashlib.sha256(base.digest.encode())
    for path in added:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return replace(base, name=str(name_or_path), folder=folder, digest=digest.hexdigest())


def weights_of_base(name_or_path: str | Path) -> frozenset[bytes]:
    """Contents (`blocks_of_files`) of all weights that a base is made of."""
    folder = resolve_base(name_or_path)
    found = blocks_of_files(folder)
    return found | blocks_of_files(bundled_bases()[_origin(folder)]) if _added(folder) else found


def _added(folder: Path) -> list[Path]:
    """Files of adapters or tokens where there is no pipeline."""
    if (folder / "model_index.json").exists():
        return []
    return [
        path
        for path in (folder / LORA_FILE, folder / LODA_FILE, *embeds_files(folder))
        if path.is_file()
    ]


def _origin(folder: Path) -> str:
    """Name of the bundled base that an adapter's certificate names, with the digest that it
    names.
    """
    if (folder / LODA_FILE).exists():
        raise ModelError(
            f"{folder} holds branches that do not merge into weights, and no method goes on from"
            " them: take its base"
        )
    for name in CERTIFICATES:
        try:
            facts = json.loads((folder / name).read_text("utf-8"))
            said = facts.get("certificate", facts)["conditions"]
            base, digest = said["base"], said["base_digest"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{name} in {folder} does not read: fetch the release again"
            ) from error
        if base in bundled_bases() and folder_digest(bundled_bases()[base]) == digest:
            return base
        break
    raise ModelError(
        f"{folder} holds an adapter alone, and the base it was made for is not one that comes with"
        " sfumato: merge it into that base with diffusers (load_lora_weights, fuse_lora,"
        " save_pretrained) and name the pipeline"
    )
