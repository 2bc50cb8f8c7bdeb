"""The origin of what is taken as public, and its lineage.

No private folder, and nothing that a run made and did not release. A base or a set of images may
itself be the release of a run under differential privacy. It then comes with that run's
certificate, and if the two runs may have seen the same images or units their costs compose.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..bases import contents_of_files, origin_of, own_name, resolve_base, weight_files
from ..bases.checks import digest_of_file
from ..errors import ModelError, SfumatoError
from ..privacy.ledger.datasets import TERMS, inherited_charges
from ..privacy.ledger.entries import Certified, Charged, Released
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.notes import CheckpointMade, ModelMade
from ..releases import CERTIFICATE, DRAFT, SAMPLE_TABLE, fitting_certificate
from ..runs.attempts import model_digest

MARK = "PRIVATE"
OURS, ANOTHERS = "this ledger", "another owner"
CURE = "`sfumato export` the run and use the model in that folder"


def require_public_place(path: Path, flag: str, error: type[SfumatoError]) -> None:
    """`error` if a file PRIVATE is in `path`, in a folder above it or in one inside it.

    Or in one that a link inside it names.
    """
    seen: dict[Path, bool] = {}

    def private(place: Path) -> bool:
        if place not in seen:
            above = place.parent != place and private(place.parent)
            seen[place] = above or os.path.lexists(place / MARK)
        return seen[place]

    found = private(Path(os.path.abspath(path))) or private(path.resolve())
    for folder, folders, files in os.walk(path) if path.is_dir() and not found else ():
        links = [
            Path(folder) / name
            for name in (*folders, *files)
            if os.path.islink(os.path.join(folder, name))
        ]
        found = (
            found
            or MARK in files
            or MARK in folders
            or any(private(link.resolve()) for link in links)
        )
    if found:
        raise error(
            f"{flag} {path} is inside a folder marked PRIVATE, or contains one: nothing in a run"
            " folder is public; run `sfumato export` or `sfumato synthesize` and use the folder"
            " that it writes"
        )


def trace_base(base: str, book: Ledger | None) -> tuple[dict[str, Any], ...]:
    """The runs that a base comes from, as a CHARGE row keeps them.

    Empty for a bundled base and for one that the owner declares public. ModelError for a folder
    marked PRIVATE, for weights that a run of this ledger made and did not export (whatever the file
    is called now), and beside a certificate that does not fit.
    """
    if own_name(base):
        return ()
    folder = resolve_base(base)
    require_public_place(folder, "--base", ModelError)
    runs = (
        {}
        if book is None
        else {run: _ours(book, run, "base") for run in _exported_makers(folder, book)}
    )
    own = (*runs.values(), *_certified(folder, book, "base", set(runs), ModelError))
    origin = origin_of(base)  # what adapters are put onto has a past of its own
    before = () if origin is None else trace_base(origin, book)
    known = {ancestor["run"] for ancestor in own}
    return (*own, *(ancestor for ancestor in before if ancestor["run"] not in known))


def trace_images(
    path: Path, book: Ledger | None, error: type[SfumatoError], flag: str = "--public-data"
) -> tuple[dict[str, Any], ...]:
    """The same for public images: those that a run has drawn come with its certificate.

    `error` for an adapted model as well: the only pictures in it are a report's samples.
    """
    require_public_place(path, flag, error)
    certified = any((path / name).is_file() for name in (CERTIFICATE, DRAFT))
    if certified and (path / SAMPLE_TABLE).is_file():
        raise error(
            f"{flag} {path} is an adapted model, whose few pictures are samples for its report and"
            " no data: give images, such as those of `sfumato synthesize`"
        )
    return _certified(path, book, "images", set(), error)


def _exported_makers(folder: Path, book: Ledger) -> list[str]:
    """Runs of this ledger whose exported weights the folder holds.

    ModelError if it holds others of theirs.
    """
    names = contents_of_files(folder)
    claims = [(names[content], makers) for content, makers in book.public.makers(names).items()]
    claims += [(name, {(run, what)}) for name, run, what in _of_older_rows(folder, book)]
    made = {run for _, makers in claims for run, what in makers if what == "model"}
    exported = {run for run in made if _exported(book, run)}
    # Of an exported run a checkpoint may hold what the model holds; a control is no part of what
    # the run has paid for.
    for name, makers in sorted(claims, key=lambda claim: (claim[0], sorted(claim[1]))):
        if not any(run in exported and what != "control" for run, what in makers):
            run, what = sorted(makers)[0]
            raise ModelError(
                f"--base {folder}: {name} is part of a {what} of run {run}, which was not exported:"
                f" {CURE}"
            )
    return sorted(exported)


def _of_older_rows(folder: Path, book: Ledger) -> list[tuple[str, str, str]]:
    """(file, run, what) for files that are known by hashes of rows without tensors.

    Checkpoint files and whole models.
    """
    checkpoints = [(r, n) for r, n in book.chain.entered(CheckpointMade) if n.made is None]
    made = [(r, n) for r, n in book.chain.entered(ModelMade) if n.made is None]
    files = (
        {digest_of_file(p).hex(): p.name for p in weight_files(folder)}
        if checkpoints or made
        else {}
    )
    found = [
        (files[note.sha256], row.run_id, "checkpoint")
        for row, note in checkpoints
        if note.sha256 in files
    ]
    models = {note.model: row.run_id for row, note in made}
    return found + (
        [("model", models[d], "model")] if models and (d := model_digest(folder)) in models else []
    )


def _exported(book: Ledger, run: str) -> bool:
    return any(released.sort == "model" for released in book.chain.entries(Released, run))


def _ours(book: Ledger, run: str, through: str) -> dict[str, Any]:
    """An ancestor of this ledger: its costs are in the group if it shares images.

    Beside it what its own bases had cost other owners.
    """
    charge = book.chain.entries(Charged, run)[0].to_body()
    certified = book.chain.entries(Certified, run)
    facts = {name: charge[name] for name in ("epsilon", *TERMS)}
    draft = certified[-1].draft if certified else None
    inherited = [
        {k: v for k, v in c.items() if k != "ancestor"} for c in inherited_charges([charge])
    ]
    return {
        "run": run,
        "owner": OURS,
        "through": through,
        **facts,
        "draft": draft,
        "charges": inherited,
    }


def _certified(
    path: Path, book: Ledger | None, through: str, known: set[str], error: type[SfumatoError]
) -> tuple[dict[str, Any], ...]:
    """The ancestor that a certificate beside the files names, unless it is `known` already."""
    found = fitting_certificate(path, error)
    if found is None or (run := found["ledger"]["run"]) in known:
        return ()
    if book is not None and book.chain.of("CHARGE", run):
        return (_ours(book, run, through),)
    ledger = found["ledger"]
    # A total that is not stated is none: no unit equals None, so nothing is added up with it
    # either.
    terms = {"unit": None if ledger["total_epsilon"] is None else found["unit"]}
    terms |= {name: found[name] for name in ("relation", "delta")}
    charges = [
        {name: charge[name] for name in ("run", "epsilon", "events")} | terms
        for charge in ledger["charges"]
    ]
    facts = {name: found[name] for name in ("epsilon", *TERMS)} | {"head": ledger["head"]}
    whole = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return (
        {
            "run": run,
            "owner": ANOTHERS,
            "through": through,
            **facts,
            "certificate": whole,
            "charges": charges,
        },
    )
