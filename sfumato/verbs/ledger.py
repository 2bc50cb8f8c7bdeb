"""`ledger`: what was ever spent on the owner's images, and the cap on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from ..errors import SfumatoError
from ..options import Reading, gather, takes
from ..planning.reading import look_at
from ..privacy.ledger.datasets import Group
from ..runs import budget, certified
from .keywords import LedgerOptions


@dataclass(frozen=True)
class Spent:
    """Runs on images that belong together.

    Attributes:
        epsilon: Of all of them; None if no total can be stated, and `unclear` has the reason.
        runs: What each was charged (run, epsilon, delta, unit, relation).
        looks: How often exact figures of these images were seen.
    """

    epsilon: float | None
    cap: float | None
    runs: tuple[dict[str, Any], ...]
    data_sets: int
    unclear: str | None
    looks: int


@dataclass(frozen=True)
class LedgerReport:
    """A ledger whose whole chain was verified.

    groups: what was spent, images that share one together. remark: one line about the images that
    were asked for; None if nothing is known of them. certificate: what the ledger says of one.
    before: the cap that a new one replaced. resets: older copies that were accepted. own:
    the same in figures (runs, epsilon, cap, unclear).
    """

    path: Path
    rows: int
    head: str
    groups: tuple[Spent, ...]
    remark: str | None = None
    certificate: str | None = None
    before: float | None = None
    images: int | None = None
    file_systems: tuple[str, ...] = ()
    resets: tuple[dict[str, Any], ...] = ()
    witnessed: bool = True
    own: Mapping[str, Any] | None = None


@takes(reading=Reading)
def ledger(
    images: str | Path | None = None,
    *,
    path: str | Path | None = None,
    against: str | Path | None = None,
    cap: float | None = None,
    raising: bool = False,
    allow_file_system: bool = False,
    **options: Unpack[LedgerOptions],
) -> LedgerReport:
    """Runs, epsilon and cap of every group of images that share one, after verifying the chain.

    Args:
        images: Private images: their own group is shown, and a cap is set on them.
        path: The ledger (default: $SFUMATO_LEDGER, or in your data folder).
        against: privacy.json of a release, to check that it is the certificate the ledger knows.
        cap: The most that all runs on `images` may ever cost together. Of several caps on images
            that belong together the smallest wins.
        raising: Allow a cap above the current one; it is recorded, and every later certificate
            shows the new one.
        allow_file_system: Also on a disk that is not known to be local; it is recorded.
        options: Fields of `Reading`, or one as `reading`.

    Returns:
        The report.

    Raises:
        SfumatoError: No ledger there, a damaged or older one, a certificate that it does not know,
            a cap without images.
    """
    reading: Reading = gather({"reading": Reading}, options, ("path", "against", "cap"))["reading"]
    if cap is not None and images is None:
        raise SfumatoError("a cap belongs to images: name their folder")
    if cap is None:
        book = budget.existing_ledger(path, allow_file_system=allow_file_system)
    else:
        place = path or budget.default_path()
        book = budget.open_ledger(place, allow_file_system=allow_file_system)
    remark = before = count = own = None
    if images is not None:
        records, _, _ = look_at(images, reading)
        count = sum(map(bool, records.fingerprints))
        if cap is not None:
            prints = records.fingerprints
            before = budget.set_cap(book, prints, cap, raising=raising, **records.marks)
        known = budget.standing(book, records.fingerprints, **records.marks)
        remark, total = known.remark, known.total if math.isfinite(known.total) else None
        own = {"runs": known.runs, "epsilon": total, "cap": known.cap, "unclear": known.unclear}
        own["delta"] = (known.terms or {}).get("delta")
    certificate = None
    if against is not None:
        certificate = str(certified.check_certificate(book, Path(against)))
    return LedgerReport(
        Path(book.path),
        len(book.rows),
        book.head,
        tuple(map(_spent, book.groups())),
        remark,
        certificate,
        before,
        count,
        tuple(book.file_systems),
        tuple(book.resets),
        book.chain.state is not None,
        own,
    )


def _spent(group: Group) -> Spent:
    total = None if group.unclear else budget.cost(group)
    runs = tuple(dict(charge) for charge in group.charges)
    return Spent(total, group.cap, runs, len(group.datasets), group.unclear, group.looks)
