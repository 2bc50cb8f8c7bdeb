"""Finish a release folder: checked files in, one complete folder out, or nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases import cards, croissant, report, verify_privacy
from sfumato.releases.audited import check_audit
from sfumato.releases.beside import check_beside
from sfumato.releases.certificate import build_privacy_json
from sfumato.releases.contents import DRAFT, SUMS, Contents, inspect_source, public_json
from sfumato.releases.facts import CertificateFacts
from sfumato.releases.statements import unasked
from sfumato.releases.verify import all_checks

VERIFIER = "verify_privacy.py"
CERTIFICATE = "privacy.json"
# written by `finalise`
PAGES = ("README.md", "PRIVACY.md", "report.html", "croissant.json", VERIFIER)


def write_draft(
    folder: Path,
    facts: CertificateFacts,
    *,
    artefacts: str,
    settings: dict[str, Any] | None = None,
    controls: dict[str, Any] | None = None,
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
    draft |= {} if run_folder is None else {"run_folder": run_folder}
    part = folder / (DRAFT + ".part")
    try:
        part.unlink(missing_ok=True)
        made = {
            p.relative_to(folder).as_posix(): p
            for p in folder.rglob("*")
            if p.is_file() and p.name != DRAFT
        }
        draft["files"] = {name: _digest(made[name]) for name in sorted(made)}
        _write(part, _json(draft))
        os.replace(part, folder / DRAFT)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _disk(error) from None
    return certificate


def finalise(
    folder: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    licence: str = "other",
    public_metrics: list[dict[str, Any]] | None = None,
    require_audit: bool = False,
    compared: bool = True,
    since: dict[str, Any] | None = None,
    noted: Callable[[dict[str, Any]], None] = lambda certificate: None,
) -> Path:
    """Turns a folder made by synthesis (with its `synthesis.json`) into a finished release.

    Args:
        folder: The folder.
        out: A new folder; None: in place.
        title: Title of the cards and the report.
        licence: Licence of the release.
        public_metrics: As in `write_release`.
        require_audit: AuditFailed unless the run was audited before, completely, by this very code,
            and passed.
        compared: The caller has compared the draft with the owner's ledger; if nobody has, the
            certificate states that, and that looks and later choices are not known.
        since: Fields of the certificate that the ledger has added to after the draft (`looks`,
            `selections`).
        noted: Called with the finished certificate before it gets its name.

    Returns:
        The release.
    """
    folder = Path(folder)
    if (folder / SUMS).exists():
        raise SfumatoError(
            f"{folder.name} is already a finished release: check it with `sfumato verify`"
        )
    try:
        draft = json.loads((folder / DRAFT).read_text("utf-8"))
        certificate, kind, made = (
            draft["certificate"] | (since or {}),
            draft["artefacts"],
            dict(draft["files"]),
        )
        controls = check_beside(draft.get("controls"))
    except FileNotFoundError:
        raise SfumatoError(
            f"{folder.name} has no {DRAFT}: make the folder with `sfumato synthesize`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise SfumatoError(f"{DRAFT} cannot be read: synthesize into a new folder") from None
    if not compared:
        certificate = unasked(certificate)
    if require_audit:
        check_audit(certificate.get("audit", {}))
    return _finish(
        folder,
        Path(out or folder),
        certificate,
        kind,
        title,
        licence,
        public_metrics,
        made,
        controls,
        noted,
    )


def write_release(
    source: Path,
    out: Path,
    facts: CertificateFacts,
    *,
    artefacts: str,
    settings: dict[str, Any] | None = None,
    title: str | None = None,
    licence: str = "other",
    public_metrics: list[dict[str, Any]] | None = None,
) -> Path:
    """Makes the finished release `out` from the files in `source`.

    Everything is written to a folder beside `out`, verified, and renamed.

    Args:
        source: The folder of images or of a model.
        out: May be `source`, else it must not exist.
        facts: As in `write_draft`.
        artefacts: As in `write_draft`.
        settings: As in `write_draft`.
        title: Title of the cards and the report.
        licence: Licence of the release.
        public_metrics: Rows {name, value, public_data} of figures computed without any private
            record;
            each must name its public data.

    Returns:
        `out`.

    Raises:
        SfumatoError: A file, label or prompt may not be in a release, `out` exists, the result does
            not verify, or the disk is full; then no part of `out` exists.
    """
    certificate = build_privacy_json(facts, settings)
    return _finish(Path(source), Path(out), certificate, artefacts, title, licence, public_metrics)


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
    own = {name: digest for name, digest in files.items() if name not in PAGES}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _finish(
    source: Path,
    out: Path,
    certificate: dict[str, Any],
    kind: str,
    title: str | None,
    licence: str,
    public_metrics: list[dict[str, Any]] | None,
    made: dict[str, str] | None = None,
    controls: dict[str, Any] | None = None,
    noted: Callable[[dict[str, Any]], None] = lambda certificate: None,
) -> Path:
    in_place = out.exists() and source.exists() and out.samefile(source)
    if out.exists() and not in_place:
        raise SfumatoError(f"the output folder {out.name} already exists: name a new one")
    for row in public_metrics or ():
        if not {"name", "value", "public_data"} <= set(row) or not row["public_data"]:
            raise SfumatoError(
                "a figure for the report needs name, value and the public data it was computed on"
            )
    facts, settings = certificate["public_facts"], certificate["synthesis"]
    prompts = (*(facts["prompts"] or ()), *(settings.get("prompts") or ()))
    contents = inspect_source(
        source, kind, classes=tuple(facts["classes"] or ()), prompts=prompts, n=settings.get("n")
    )
    if made is not None and set(made) != set(contents.files):
        raise SfumatoError(
            "files were added or removed since `sfumato synthesize`: synthesize into a new folder"
        )
    title = title or ("Synthetic images" if kind == "images" else "Adapted diffusion model")
    pages = _pages(certificate, contents, title, licence, public_metrics or [], controls)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise _disk(error) from None
    try:
        hashes = {
            name: _copy(source / name, building / name, made[name] if made else None)
            for name in contents.files
        }
        hashes.update({name: _write(building / name, page) for name, page in pages.items()})
        certificate = {**certificate, "artefacts": dict(sorted(hashes.items()))}
        hashes[CERTIFICATE] = _write(building / CERTIFICATE, _json(certificate))
        _write(
            building / SUMS,
            "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode(),
        )
        failed = [f"{name} ({detail})" for name, ok, detail in all_checks(building) if not ok]
        if failed:
            raise SfumatoError(f"the release does not verify, so it was not written: {failed[0]}")
        noted(certificate)
        building.chmod(0o755)
        _rename(building, out, in_place)
    except OSError as error:
        raise _disk(error) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _pages(
    certificate: dict[str, Any],
    contents: Contents,
    title: str,
    licence: str,
    metrics: list[dict[str, Any]],
    controls: dict[str, Any] | None,
) -> dict[str, bytes]:
    """The files that sfumato writes itself, by name."""
    about = {"title": title, "licence": licence}
    pages = {
        "README.md": cards.readme(certificate, contents, **about),
        "PRIVACY.md": cards.statement(certificate, contents, **about),
        "report.html": report.render(
            certificate, contents, title=title, metrics=metrics, controls=controls
        ),
    }
    if contents.kind == "images":
        pages["croissant.json"] = croissant.render(certificate, contents, **about)
    verifier = Path(verify_privacy.__file__).read_bytes()
    return {**{name: page.encode("utf-8") for name, page in pages.items()}, VERIFIER: verifier}


def _rename(building: Path, out: Path, in_place: bool) -> None:
    """Gives the finished folder its name.

    In place, the draft is moved aside first and comes back if that fails. A process killed between
    the two renames leaves both folders whole, under names that begin with a dot.
    """
    if not in_place:
        os.rename(building, out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-draft-", dir=out.parent))
    try:
        os.rename(out, aside)
    except OSError:
        aside.rmdir()
        raise
    try:
        os.rename(building, out)
    except OSError:
        os.rename(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path, data: bytes) -> str:
    """Write and flush one file; returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return hashlib.sha256(data).hexdigest()


def _copy(source: Path, target: Path, made: str | None) -> str:
    """Copies one checked file, without its times and modes; returns its SHA-256.

    Torn copies show in SHA256SUMS. `made`: the hash it had when it was written; SfumatoError if it
    is another file now.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, written = hashlib.sha256(), hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(-1 if source.suffix == ".json" else 1 << 20):
            digest.update(block)
            block = public_json(block) if source.suffix == ".json" else block
            writer.write(block)
            written.update(block)
    if made is not None and digest.hexdigest() != made:
        raise SfumatoError(
            f"{source.name} is not the file that was synthesized or exported: make the folder again"
        )
    return written.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _json(value: dict[str, Any]) -> bytes:
    """Readable JSON; each point of the curve stays on one line. NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    text = re.sub(r"\[\n\s+([-\d.e+]+),\n\s+([-\d.e+]+)\n\s+\]", r"[\1, \2]", text)
    return (text + "\n").encode("utf-8")


def _disk(error: OSError) -> SfumatoError:
    return SfumatoError(
        f"cannot write the release ({error.strerror or error}); nothing was left half-written"
    )
