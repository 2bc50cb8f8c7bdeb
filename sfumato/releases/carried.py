"""The certificate beside a model or images from anyone.

Believed only if it fits these very files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases import consistency, verify_privacy
from sfumato.releases.contents import DRAFT, SUMS

CERTIFICATE = "privacy.json"
BESIDE = (CERTIFICATE, SUMS, DRAFT)


def fitting_certificate(path: Path, error: type[SfumatoError]) -> dict[str, Any] | None:
    """privacy.json (or a draft) in the folder `path`, or in the release folder around it.

    None if there is none. `error` if it is there and does not fit: a file with another hash or
    none, or figures that do not hold when they are priced again.
    """
    for root in (
        (path, *path.resolve().parents[:2]) if path.is_dir() else path.resolve().parents[:2]
    ):
        found = _read(root, error)
        if found is None:
            continue
        facts, hashes = found
        inside = [
            p for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if not p.is_dir()
        ]
        names = [
            p.resolve().relative_to(root.resolve()).as_posix()
            for p in inside
            if p.name not in BESIDE
        ]
        names = [name for name in names if not verify_privacy.BESIDE.fullmatch(name)]
        if root != path and not set(names) & set(hashes):
            continue  # a release that lies there by chance
        wrong = next((name for name in names if hashes.get(name) != _digest(root / name)), None)
        if wrong is not None:
            raise error(
                f"{path} lies in a release, and {wrong} is not the file that its certificate names:"
                " fetch the release again"
            )
        _require_figures(facts, path, error)
        return facts
    return None


def _read(root: Path, error: type[SfumatoError]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(facts, hash of each file) of the certificate in `root`, the finished one first.

    None without one.
    """
    try:
        if (root / CERTIFICATE).is_file():
            facts = verify_privacy.load(root)
            return facts, dict(facts["artefacts"])
        if (root / DRAFT).is_file():
            draft = json.loads((root / DRAFT).read_text("utf-8"))
            return dict(draft["certificate"]), dict(draft["files"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as reason:
        raise error(
            f"the certificate beside {root} does not read: fetch the release again"
        ) from reason
    return None


def _require_figures(facts: dict[str, Any], path: Path, error: type[SfumatoError]) -> None:
    try:
        checks = [*verify_privacy.check_privacy(facts), *consistency.check_facts(facts)]
        failed = next((name for name, passed, _ in checks if not passed), None)
        if not (
            isinstance(facts["ledger"]["run"], str) and isinstance(facts["ledger"]["head"], str)
        ):
            failed = "ledger"
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError):
        failed = "privacy.json"
    if failed is not None:
        raise error(
            f"the certificate beside {path} does not hold ({failed}), so nobody knows what it cost:"
            " fetch the release again"
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
