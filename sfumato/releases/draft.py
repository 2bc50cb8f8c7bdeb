"""The draft of a release: `synthesis.json` beside the files of synthesis or export."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.releases import figures
from sfumato.releases.beside import check_base_pictures, check_beside
from sfumato.releases.certificate import build_privacy_json
from sfumato.releases.contents import DRAFT
from sfumato.releases.facts import CertificateFacts
from sfumato.releases.formats import public_json
from sfumato.releases.writing import as_json, digest, disk, write

VERIFIER = "verify_privacy.py"
CERTIFICATE = "privacy.json"
# written by `finalise`
PAGES = (*figures.PAGES, "croissant.json", VERIFIER)


def write_draft(
    folder: Path,
    facts: CertificateFacts,
    *,
    artefacts: str,
    settings: dict[str, Any] | None = None,
    controls: dict[str, Any] | None = None,
    base_pictures: Mapping[int, bytes] | None = None,
    pipeline: str | None = None,
    place: str | None = None,
    run_folder: str | None = None,
) -> dict[str, Any]:
    """Writes `synthesis.json`, which is all that `finalise` needs beside the files themselves.

    It holds the hash of every file that is there now, so that a release can hold no other.

    Args:
        folder: The folder of images or of a model.
        facts: What the certificate is built from.
        artefacts: "images" or "model".
        settings: The public settings of synthesis: scheduler, steps, guidance, public_seed, n,
            resolution, class_shares ("uniform", "declared" or "noisy-histogram"), prompts.
        controls: What the report shows beside a token (`beside.check_beside`).
        base_pictures: PNG by seed that the public base drew, for the report of images: each beside
            the picture of the same prompt and seed.
        pipeline: The base's class in diffusers, for the card of adapters.
        place: Path of the ledger, for `release` alone; of a draft only its certificate leaves.
        run_folder: Path of the run, likewise.

    Returns:
        The certificate.
    """
    check_beside(controls)
    certificate = build_privacy_json(facts, settings)
    draft = {"format": "sfumato-synthesis/1", "artefacts": artefacts, "certificate": certificate}
    draft |= ({} if controls is None else {"controls": controls}) | (
        {} if place is None else {"ledger": place}
    )
    if base_pictures:
        row = {str(s): base64.b64encode(data).decode("ascii") for s, data in base_pictures.items()}
        check_base_pictures(row)
        draft["base_pictures"] = row
    draft |= {} if pipeline is None else {"pipeline": pipeline}
    draft |= {} if run_folder is None else {"run_folder": run_folder}
    part = folder / (DRAFT + ".part")
    try:
        part.unlink(missing_ok=True)
        made = {
            p.relative_to(folder).as_posix(): p
            for p in folder.rglob("*")
            if p.is_file() and p.name != DRAFT
        }
        draft["files"] = {name: digest(made[name]) for name in sorted(made)}
        write(part, as_json(draft))
        os.replace(part, folder / DRAFT)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk(error) from None
    return certificate


def drafted_files(folder: Path) -> dict[str, str]:
    """SHA-256 by name that the files of a draft will have in its release."""
    made = json.loads((folder / DRAFT).read_text("utf-8"))["files"]
    plain = {
        name: public_json((folder / name).read_bytes()) for name in made if name.endswith(".json")
    }
    return {
        name: hashlib.sha256(plain[name]).hexdigest() if name in plain else made[name]
        for name in made
    }


def files_digest(files: dict[str, str]) -> str:
    """SHA-256 over names and hashes of a release's files.

    Without the pages that `finalise` writes.
    """
    kept = {name: own for name, own in files.items() if name not in PAGES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
