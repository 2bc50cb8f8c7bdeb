"""Finish a release folder: checked files in, one complete folder out, or nothing at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.options.progress import tell
from sfumato.options.sharing import NAME
from sfumato.releases import cards, croissant, report, verify_privacy
from sfumato.releases.audited import check_audit
from sfumato.releases.beside import beside_base, check_base_pictures, check_beside
from sfumato.releases.certificate import build_privacy_json
from sfumato.releases.contents import (
    DRAFT,
    SUMS,
    Contents,
    inspect_source,
    known_pipeline,
    public_words,
)
from sfumato.releases.draft import CERTIFICATE, VERIFIER
from sfumato.releases.facts import CertificateFacts
from sfumato.releases.statements import unasked
from sfumato.releases.verify import all_checks
from sfumato.releases.writing import as_json, copy, disk, rename, write

TITLES = {
    "imagefolder": "Synthetic images",
    "parquet": "Synthetic images",
    "pipeline": "Adapted diffusion model",
    "learned_embeds": "Token for a diffusion model",
}


def finalise(
    folder: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    licence: str = "other",
    base_model: str | None = None,
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
        base_model: ORG/NAME of the base on a hub, for a model's card.
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
        certificate, kind = draft["certificate"] | (since or {}), draft["artefacts"]
        drafted = _Drafted(
            dict(draft["files"]),
            check_beside(draft.get("controls")),
            check_base_pictures(draft.get("base_pictures")),
            known_pipeline(draft.get("pipeline")),
        )
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
        base_model,
        public_metrics,
        drafted,
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
    base_model: str | None = None,
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
        base_model: ORG/NAME of the base on a hub, for a model's card.
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
    return _finish(
        Path(source), Path(out), certificate, artefacts, title, licence, base_model, public_metrics
    )


@dataclass(frozen=True)
class _Drafted:
    """What a draft knows beside its certificate: hashes of files, and what stands beside them."""

    files: dict[str, str] | None = None
    controls: dict[str, Any] | None = None
    base_pictures: Mapping[int, bytes] | None = None
    pipeline: str | None = None


def _finish(
    source: Path,
    out: Path,
    certificate: dict[str, Any],
    kind: str,
    title: str | None,
    licence: str,
    base_model: str | None,
    public_metrics: list[dict[str, Any]] | None,
    drafted: _Drafted | None = None,
    noted: Callable[[dict[str, Any]], None] = lambda certificate: None,
) -> Path:
    drafted = drafted or _Drafted()
    made = drafted.files
    in_place = out.exists() and source.exists() and out.samefile(source)
    if out.exists() and not in_place:
        raise SfumatoError(f"the output folder {out.name} already exists: name a new one")
    for row in public_metrics or ():
        if not {"name", "value", "public_data"} <= set(row) or not row["public_data"]:
            raise SfumatoError(
                "a figure for the report needs name, value and the public data it was computed on"
            )
    settings = certificate["synthesis"]
    contents = inspect_source(source, kind, **public_words(certificate), n=settings.get("n"))
    contents.samples |= beside_base(contents, drafted.base_pictures or {})
    contents.load_into(drafted.pipeline)
    if made is not None and set(made) != set(contents.files):
        raise SfumatoError(
            "files were added or removed since `sfumato synthesize`: synthesize into a new folder"
        )
    if base_model is not None and not NAME.fullmatch(base_model):
        raise SfumatoError(f"--base-model {base_model}: give ORG/NAME, as on the hub")
    if not licence.strip():
        raise SfumatoError("--licence is empty: name the licence, or leave the option out")
    title = title or TITLES.get(contents.layout, TITLES["pipeline"])
    pages = _pages(
        certificate, contents, title, licence, base_model, public_metrics or [], drafted.controls
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise disk(error) from None
    try:
        hashes = {}
        for done, name in enumerate(contents.files):
            tell("copying and hashing the files", done, len(contents.files))
            hashes[name] = copy(source / name, building / name, made[name] if made else None)
        hashes.update({name: write(building / name, page) for name, page in pages.items()})
        certificate = {**certificate, "artefacts": dict(sorted(hashes.items()))}
        hashes[CERTIFICATE] = write(building / CERTIFICATE, as_json(certificate))
        write(
            building / SUMS,
            "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode(),
        )
        failed = [f"{name} ({detail})" for name, ok, detail in all_checks(building) if not ok]
        if failed:
            raise SfumatoError(f"the release does not verify, so it was not written: {failed[0]}")
        noted(certificate)
        building.chmod(0o755)
        rename(building, out, in_place)
    except OSError as error:
        raise disk(error) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _pages(
    certificate: dict[str, Any],
    contents: Contents,
    title: str,
    licence: str,
    base_model: str | None,
    metrics: list[dict[str, Any]],
    controls: dict[str, Any] | None,
) -> dict[str, bytes]:
    """The files that sfumato writes itself, by name."""
    about = {"title": title, "licence": licence}
    pages = {
        "README.md": cards.readme(certificate, contents, **about, base_model=base_model),
        "PRIVACY.md": cards.statement(certificate, contents, title=title, licence=licence),
        "PRIVACY.html": cards.signed_page(certificate, contents, **about),
        "report.html": report.render(
            certificate, contents, title=title, metrics=metrics, controls=controls
        ),
    }
    if contents.kind == "images":
        pages["croissant.json"] = croissant.render(certificate, contents, **about)
    verifier = Path(verify_privacy.__file__).read_bytes()
    return {**{name: page.encode("utf-8") for name, page in pages.items()}, VERIFIER: verifier}
