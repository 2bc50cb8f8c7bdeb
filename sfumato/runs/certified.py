"""A draft or a certificate, compared with the owner's ledger.

Unit, relation, delta, events and facts as in its CHARGE rows, and the very bytes that its CERTIFY
row names.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import LedgerFault, SfumatoError
from ..privacy.ledger.chain import E
from ..privacy.ledger.datasets import TERMS_APART, UNKNOWN
from ..privacy.ledger.entries import Attempt, Certified, Charged, OnDisk, Planned, Replayed
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.notes import Finished, Matched, Stopped
from ..releases import (
    DRAFT,
    NOT_COMPARED,
    SUMS,
    VerifyReport,
    certificate_digest,
    files_digest,
    planned_steps,
    release_digest,
)
from ..releases import verify as verify_release
from . import budget
from .looks import selections_of, stopped_of

TERMS = ("unit", "relation", "delta", "max_per_unit")
FEWER = (
    "its total is that of an earlier version, which counted fewer outputs of the runs before it:"
    " `sfumato ledger show` states today's"
)
SUM_OF_OTHERS = (
    "the certificate adds up runs of different relations or deltas, as earlier versions did, and"
    " that sum holds for none of them: synthesize or export again"
)


@dataclass(frozen=True)
class Confirmed:
    """A ledger's answer on a certificate.

    `row`: the one it names; `missing`: what it does not confirm, in words.
    """

    row: int
    run: str
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"row {self.row} of run {self.run}" + "".join(
            f"; but {what}" for what in self.missing
        )


def check_draft(folder: Path, ledger: str | Path | None = None) -> Confirmed:
    """Checks that the draft in a folder of `synthesize` or `export` is the one that was certified.

    LedgerFault unless the ledger's CERTIFY row names it; SfumatoError for a folder without a draft.
    ledger: its path; default: as in the draft, or the user's own.
    """
    _require_draft(folder)
    try:
        blob = (folder / DRAFT).read_bytes()
        draft = json.loads(blob)
        claim, place = draft["certificate"], ledger or draft.get("ledger") or budget.default_path()
        run, place = str(claim["ledger"]["run"]), Path(place)
    except FileNotFoundError:
        raise SfumatoError(
            f"{folder.name} has no {DRAFT}: make the folder with `sfumato synthesize`"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise SfumatoError(f"{DRAFT} cannot be read; synthesize into a new folder") from None
    cure = (
        "say --ledger PATH, or, if it is gone for good, --without-ledger, which the certificate"
        " shows"
    )
    if not place.exists():
        raise LedgerFault(f"the ledger {place} is not there to compare the draft with: {cure}")
    book = budget.existing_ledger(place)
    try:
        if not book.chain.of_run(run):
            raise LedgerFault(f"the ledger {place} does not know the run of this draft: {cure}")
        own = hashlib.sha256(blob).hexdigest()
        named = [row for row in book.chain.entries(Certified, run) if row.draft == own]
        if not named:
            raise LedgerFault(
                f"{DRAFT} is not a draft that the ledger certified: it was altered, or `sfumato"
                " synthesize` did not end. Synthesize or export again"
            )
        # `looks_since` then judges a total of an earlier version
        return _compare(book, claim, any(row.outputs is None for row in named))
    finally:
        book.close()


def require_gone(folder: Path, ledger: str | Path | None = None) -> None:
    """LedgerFault if the ledger of a draft is at hand after all, opens and knows its run.

    Then it must be used, and the certificate states what it knows.
    """
    _require_draft(folder)
    try:
        draft = json.loads((folder / DRAFT).read_bytes())
        run, said = str(draft["certificate"]["ledger"]["run"]), draft.get("ledger")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # `finalise` says what is wrong with the draft
    for place in {Path(named) for named in (ledger, said, budget.default_path(folder)) if named}:
        try:
            book = budget.existing_ledger(place)
        except SfumatoError:
            continue
        known = bool(book.chain.of_run(run))
        book.close()
        if known:
            raise LedgerFault(
                f"the ledger {place} is there and knows this run: leave --without-ledger out, or"
                " say --ledger where it was moved"
            )


def _require_draft(folder: Path) -> None:
    if (folder / SUMS).exists():
        raise SfumatoError(
            f"{folder.name} is a finished release already; check it with `sfumato verify`"
        )


def check_certificate(ledger: Ledger, certificate: Path) -> Confirmed:
    """Finds the row of the ledger that a certificate's head is.

    LedgerFault if there is none (rows were lost, or it is another ledger), and if the certificate
    states anything else than the ledger did at that row or certified after it.
    """
    try:
        claim = json.loads(certificate.read_text("utf-8"))
        facts = claim["ledger"]
        entries = facts["entries"]
        own, files = certificate_digest(claim), files_digest(claim["artefacts"])
        certified = [
            certified
            for row, certified in ledger.chain.entered(Certified, facts["run"])
            if row.seq >= entries
        ]
        former = any(row.outputs is None and row.certificate in (own, None) for row in certified)
        found = _compare(ledger, claim, former)
        since = _compare_since(ledger, claim)
        found = replace(found, missing=(*found.missing, *since))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, SfumatoError):
            raise
        raise SfumatoError(
            f"{certificate.name} is not a certificate: give privacy.json of a release"
        ) from error
    if not certified:
        raise LedgerFault(
            "the ledger certified nothing of this run after that row: the certificate is not one of"
            " its own"
        )
    if any((row.certificate, row.files) == (own, files) for row in certified):
        return found
    if all(row.certificate is not None for row in certified):
        raise LedgerFault(
            "the certificate or its files are not what the ledger certified: they were altered"
        )
    return replace(
        found,
        missing=(
            *found.missing,
            "the certificate's own hash was not compared: rows of older versions do not hold it",
        ),
    )


def verify(folder: str | Path, ledger: str | Path | None = None) -> VerifyReport:
    """The checks of a finished release (`releases.verify`) and, with a ledger, its confirmation."""
    report = verify_release(folder)
    if ledger is None:
        return report
    try:
        book = budget.existing_ledger(ledger)
        said = ("ledger", True, str(check_certificate(book, Path(folder) / "privacy.json")))
        book.close()
    except SfumatoError as error:
        said = ("ledger", False, str(error))
    return VerifyReport(report.ok and said[1], [*report.checks, said])


def _compare(ledger: Ledger, claim: dict[str, Any], former: bool) -> Confirmed:
    """Everything that the rows before the certificate's head decide.

    `former`: an earlier version certified it, whose total counted fewer outputs.
    """
    facts = claim["ledger"]
    head, entries, run = facts["head"], facts["entries"], facts["run"]
    found = [row.seq for row in ledger.rows if row.hash == head]
    if not found or found[0] != entries - 1:
        raise LedgerFault(
            "the certificate names a row that this ledger lacks: it is an older copy or another"
            " ledger"
        )

    def before(sort: type[E]) -> list[E]:
        known = ledger.chain.entered(sort, run) if isinstance(run, str) else []
        return [entry for row, entry in known if row.seq < entries]

    if not before(Charged):
        raise _altered("charges")
    own = before(Charged)[0]
    group = ledger.datasets.group(frozenset({own.dataset}), entries, former=former)
    charges = [
        {name: charge[name] for name in ("run", "epsilon", "events")} for charge in group.charges
    ]
    if own.events != claim["events"] or (facts["charges"], facts["data_sets"]) != (
        charges,
        len(group.datasets),
    ):
        raise _altered("charges")
    for name in TERMS:
        if getattr(own, name) not in (None, claim[name]):
            raise _altered(name)
    if not math.isclose(claim["epsilon"], own.epsilon, rel_tol=0, abs_tol=1e-3 + 1e-9):
        raise _altered("epsilon")
    if group.unclear == TERMS_APART and facts["total_epsilon"] is not None:
        raise LedgerFault(SUM_OF_OTHERS)
    resets = [
        {k: v for k, v in known.items() if k != "utc"}
        for known in ledger.resets
        if known["row"] < entries
    ]
    said = [{k: v for k, v in known.items() if k != "utc"} for known in facts["resets"]]
    disks = sorted(
        {disk.file_system for row, disk in ledger.chain.entered(OnDisk) if row.seq < entries}
    )
    steps = planned_steps(claim["mechanism"]) or 0  # an inversion's has none
    voted = [m.shares for m in before(Matched) if m.chosen is not None]
    shares = (
        [[c["share"] for c in claim["base_vote"]["candidates"]]] if "base_vote" in claim else []
    )
    pairs = {
        "cap": (facts["cap"], group.cap),
        "attempts": (facts["attempts"], len(before(Attempt))),
        "replays": (facts["replays"], len(before(Replayed))),
        "run key": (facts["run_key_id"], before(Planned)[-1].key_id),
        "resets": (said, resets),
        "votes for the base": (shares, [list(found) for found in voted]),
        "step of stopping": (claim.get("stopped"), stopped_of(before(Stopped), steps)),
        "file systems": (facts.get("file_systems", []), disks),
        "reason for no total": (facts.get("no_total", group.unclear), group.unclear),
        "order of plans": (facts.get("adaptive", group.adaptive), group.adaptive),
    }
    for name, (here, there) in pairs.items():
        if here != there:
            raise _altered(name)
    total = budget.cost(group) if len(charges) > 1 else own.epsilon
    # certified by an earlier version, which took its units for the same
    if group.unclear == UNKNOWN and "no_total" not in facts:
        total = budget.price(group.charges, group.adaptive)
    stated = math.inf if facts["total_epsilon"] is None else facts["total_epsilon"]
    if not (stated == total or math.isclose(stated, total, rel_tol=0, abs_tol=1e-3 + 1e-9)):
        raise _altered("total epsilon")
    today = ledger.datasets.group(group.datasets, entries).adaptive
    return Confirmed(found[0], run, (FEWER,) if today and not group.adaptive else ())


def _compare_since(ledger: Ledger, claim: dict[str, Any]) -> Iterator[str]:
    """Compares what a release asked the ledger anew.

    No fewer looks than when it was made, and choices that happened; yields what cannot be known.
    """
    entries, run = claim["ledger"]["entries"], claim["ledger"]["run"]
    own = frozenset({ledger.chain.entries(Charged, run)[0].dataset})
    told, now = claim.get("looks", {"exact": 0})["exact"], ledger.datasets.group(own).looks
    if told is None:
        if NOT_COMPARED not in claim["not_private"]["opt_ins"]:
            raise _altered("number of looks")
        yield f"the certificate does not know of looks, and the ledger has {now:,} now"
    else:
        made = _released_at(ledger, claim)
        if told < ledger.datasets.group(own, entries if made is None else made).looks:
            raise _altered("number of looks")
        if told < now:
            since = (
                "since this release"
                if made is not None
                else "some of them perhaps before this release, whose row is not known"
            )
            yield f"the ledger has {now - told:,} more looks than it says, {since}"
    choices, before = selections_of(ledger, run), len(selections_of(ledger, run, entries))
    told = claim.get("selections", choices[:before])
    if told != choices[: len(told)] or len(told) < before:
        raise _altered("choice among runs")


def _released_at(ledger: Ledger, claim: dict[str, Any]) -> int | None:
    """Number of the row that `release` left of this certificate; None if none of its draft did.

    LedgerFault for another one's.
    """
    own = certificate_digest(claim)
    known = ledger.chain.entered(Finished, "")
    noted = [(row, note) for row, note in known if note.certificate == own]
    found = [row.seq for row, note in noted if note.released == release_digest(claim)]
    if noted and not found:
        raise LedgerFault(
            "the certificate is not one that the ledger noted when it was released: it was altered"
        )
    return found[0] if found else None


def _altered(name: str) -> LedgerFault:
    if name == "charges":
        return LedgerFault(
            "the certificate lists other charges than this ledger did at its row: it was altered"
        )
    return LedgerFault(
        f"the certificate states another {name} than this ledger did at its row: it was altered"
    )
