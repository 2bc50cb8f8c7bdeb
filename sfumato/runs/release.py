"""The last step of a release.

What only the owner's ledger and the run folder know is checked before a page is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import LedgerFault, SfumatoError
from ..privacy.ledger.entries import Charged
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.notes import Finished
from ..releases import DRAFT, certificate_digest, finalise, release_digest
from ..releases.verify import is_run
from . import budget
from .certified import check_draft, require_gone
from .looks import looks_since

_NUMBER = re.compile(r"[-+]?\d+(?:\.(\d+))?(?:e[-+]?\d+)?", re.IGNORECASE)


def finish(
    folder: Path,
    out: Path | None = None,
    *,
    ledger: str | Path | None = None,
    without_ledger: bool = False,
    title: str | None = None,
    licence: str = "other",
    base_model: str | None = None,
    public_metrics: Sequence[Mapping[str, Any]] | None = None,
    require_audit: bool = False,
) -> Path:
    """Finish a folder of `synthesize` or `export`, as in `verbs.release`.

    LedgerFault for `without_ledger` where the ledger is there after all. SfumatoError if a
    title, a licence or words of a figure hold a caption of images that the ledger has charged,
    where a figure is one of the run's private evaluations, for a run folder, and, in place, from
    within the folder.
    """
    metrics = None if public_metrics is None else [dict(row) for row in public_metrics]
    folder = folder if folder.name else folder.absolute()  # "." as it is called
    if is_run(folder):
        raise SfumatoError(
            f"{folder.name} is a run folder, which never leaves this machine: make a release of it"
            " with `sfumato synthesize` or `sfumato export` first"
        )
    if out is None:
        _require_outside(folder.resolve())
    if without_ledger:
        require_gone(folder, ledger)
        book = None
    else:
        check_draft(folder, ledger)
        book = budget.existing_ledger(place_of(folder, ledger))
    try:
        _require_no_captions([title or "", licence, base_model or "", *_words(metrics or ())], book)
        _require_not_private(folder, metrics or ())
        return finalise(
            folder,
            out,
            title=title,
            licence=licence,
            base_model=base_model,
            public_metrics=metrics,
            require_audit=require_audit,
            compared=book is not None,
            since=None if book is None else looks_since(folder, ledger),
            noted=_noted(book),
        )
    finally:
        if book is not None:
            book.close()


def _require_outside(folder: Path) -> None:
    """SfumatoError where the process stands in the folder that a finished one is to replace."""
    if Path.cwd().is_relative_to(folder):
        raise SfumatoError(
            f"you are in {folder.name}, and `release` puts a finished folder in its place: leave it"
            f" (cd {quote(str(folder.parent))}), then sfumato release {quote(folder.name)}"
        )


def place_of(folder: Path, ledger: str | Path | None) -> Path:
    """Path of the ledger of a draft: as given, as in the draft, or the user's own."""
    return Path(ledger or _draft(folder).get("ledger") or budget.default_path())


def _draft(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / DRAFT).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}  # `finalise` says what is wrong with the draft


def _noted(book: Ledger | None) -> Callable[[dict[str, Any]], None]:
    """Leaves a row with the hash of the finished certificate.

    `verify --ledger` then knows how many looks there were by then.
    """
    if book is None:
        return lambda certificate: None

    def note(certificate: dict[str, Any]) -> None:
        run, told = certificate["ledger"]["run"], certificate["looks"]["exact"]
        finished = Finished(
            released=release_digest(certificate),
            certificate=certificate_digest(certificate),
            run=run,
        )
        try:
            with book.chain.transaction():
                own = frozenset({book.chain.entries(Charged, run)[0].dataset})
                if book.datasets.group(own).looks > told:
                    raise LedgerFault(
                        "somebody looked at exact scores while this release was made: release"
                        " again, and it says so"
                    )
                book.chain.enter(finished)
        except ValueError as error:
            raise budget.in_words(error) from error

    return note


def _words(metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in metrics:
        yield from (str(row[name]) for name in ("name", "value", "public_data") if name in row)


def _require_no_captions(texts: Sequence[str], book: Ledger | None) -> None:
    copied = 0 if book is None else book.public.captions(texts)
    if copied:
        raise SfumatoError(
            f"{copied} of the title, the licence and the words of figures are, or hold, a caption"
            " of images that were charged, and they are published: word them anew"
        )


def _require_not_private(folder: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """SfumatoError for a figure from the run's private evaluations: it is not from public data."""
    place = _draft(folder).get("run_folder")
    private = [] if not isinstance(place, str) else list(_private_figures(Path(place)))
    for row in metrics:
        if any(
            _equal(text, value)
            for text in _NUMBER.finditer(str(row.get("value")))
            for value in private
        ):
            raise SfumatoError(
                f"the figure {str(row.get('name'))!r} is in the run's private evaluations,"
                " which no epsilon covers: leave it out"
            )


def _private_figures(run: Path) -> Iterator[float]:
    for path in sorted((run / "evaluation").rglob("*.json")) if run.is_dir() else ():
        try:
            yield from _numbers(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, RecursionError):
            continue


def _numbers(value: Any) -> Iterator[float]:
    """Figures that are not counts."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _numbers(inner)


def _equal(text: re.Match[str], value: float) -> bool:
    """Whether a number in a text is a private figure, or that in percent.

    Rounded too, if three digits of it are left.
    """
    said = float(text[0])
    if any(math.isclose(said, known, rel_tol=1e-9) for known in (value, 100 * value)):
        return True
    digits = len(text[1] or "")
    enough = (
        len(text[0].lower().partition("e")[0].strip("+-0.").replace(".", "")) >= 3
        and "e" not in text[0].lower()
    )
    return enough and any(
        math.isclose(said, round(known, digits), abs_tol=10.0 ** -(digits + 6))
        for known in (value, 100 * value)
    )
