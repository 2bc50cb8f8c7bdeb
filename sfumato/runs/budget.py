"""The owner's ledger: its path, and the total cost of its charges."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BudgetError, LedgerFault, MachineError, SfumatoError
from ..privacy import accounting
from ..privacy import events as dp_events
from ..privacy.events import PoissonGaussian
from ..privacy.ledger.charges import OverBudget
from ..privacy.ledger.datasets import Group
from ..privacy.ledger.faults import LedgerError, LedgerOutOfReach, OlderCopy
from ..privacy.ledger.ledger import Ledger

VARIABLE = "SFUMATO_LEDGER"
FILE = "ledger.sqlite"


def default_path(beside: Path | None = None) -> Path:
    """$SFUMATO_LEDGER, or the user's data folder; without a home, next to `beside`.

    The data folder is $XDG_DATA_HOME/sfumato or ~/.local/share/sfumato.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).absolute()
    try:
        home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return Path(home).absolute() / "sfumato" / FILE
    except RuntimeError:  # a container's user without a home
        if beside is None:
            raise MachineError(
                f"there is no home folder to keep the ledger in: set --ledger or {VARIABLE}"
            ) from None
        return beside.absolute().parent / FILE


def in_words(error: ValueError) -> SfumatoError:
    """The ledger's own error as the one that a user sees, with the exit code of its cause."""
    for kind, ours in (
        (OverBudget, BudgetError),
        (LedgerOutOfReach, MachineError),
        (LedgerError, LedgerFault),
    ):
        if isinstance(error, kind):
            return ours(str(error))
    return SfumatoError(str(error))


@dataclass(frozen=True)
class Standing:
    """What the ledger knows of some images.

    `order`: their slots sorted by keyed hash, int64 [n]. `total`: epsilon so far.

    `unclear`: why no total can be stated of earlier runs; `ahead`: why none could be, were these
    images charged with this unit too.
    """

    order: np.ndarray
    terms: dict[str, Any] | None
    runs: int
    total: float
    cap: float | None
    unclear: str | None = None
    ahead: str | None = None

    @property
    def remark(self) -> str | None:
        """One line for the owner; None if nothing was charged and nothing capped."""
        if not self.runs and self.cap is None:
            return None
        cap = "" if self.cap is None else f"; the cap is {self.cap:g}"
        runs = f"{self.runs} earlier {'run' if self.runs == 1 else 'runs'}"
        if self.unclear:
            return (
                f"no total can be stated of {runs} on these images or units, for"
                f" {self.unclear}{cap}"
            )
        said = f"these images have cost epsilon {self.total:.3f} in {runs}{cap}"
        if self.ahead:
            said += f"; with this one no total can be stated, for {self.ahead}" + (
                ": it will be refused" if cap else ""
            )
        return said


def standing(
    ledger: Ledger,
    fingerprints: Sequence[bytes],
    *,
    files: Sequence[bytes] | None = None,
    units: Sequence[bytes] | None = None,
    unit: str | None = None,
) -> Standing:
    """What was spent on images given by a hash of their pixels per slot (b"" for an unusable slot).

    `files`, `units` as in `Ledger.identify`; `unit`: what is protected in a run that is planned on
    them, if one is.
    """
    order = slot_order(ledger, fingerprints)
    try:
        manifest = ledger.identify(fingerprints, files, units)
        group = ledger.group(manifest)
        coming = {"unit": unit, "listing": manifest.listing}
        ahead = ledger.datasets.unclear([*group.charges, coming], manifest) if unit else None
    except LedgerError as error:
        raise in_words(error) from error
    runs, total = len(group.charges), cost(group)
    return Standing(
        np.array(order, np.int64), group.terms, runs, total, group.cap, group.unclear, ahead
    )


def slot_order(ledger: Ledger, fingerprints: Sequence[bytes]) -> list[int]:
    """Slots in an order that does not depend on images: sorted by keyed hashes.

    These are all different, and as good as random numbers. So neighbouring data sets have the same
    distribution of orders, and the same order for the same random numbers: removing or replacing a
    record leaves every other record in its slot, and with it in its microbatch. An unusable slot
    has a number of its own too, and so has each copy of an image: equal ones, or a last place,
    would distinguish the data sets.
    """
    seen: Counter[bytes] = Counter()
    keys = []
    for place, pixels in enumerate(fingerprints):
        name = pixels or b"unusable slot %d" % place
        keys.append(ledger.keyed(name + b" copy %d" % seen[name] if seen[name] else name))
        seen[name] += 1
    return sorted(range(len(keys)), key=keys.__getitem__)


def cost(group: Group) -> float:
    """Epsilon of all charges on a group, 0 for none; infinity if no total can be stated."""
    if group.unclear:
        return math.inf
    return price(group.charges, group.adaptive) if group.charges else 0.0


def open_ledger(path: str | Path, *, allow_file_system: bool = False) -> Ledger:
    """The ledger at `path`, made when missing and verified whole.

    SfumatoError if it cannot be used. allow_file_system: also on a disk that is not known to be
    local; a row records it, and such a place is accepted from then on.
    """
    try:
        return Ledger(path, allow_file_system=allow_file_system)
    except LedgerError as error:
        raise in_words(error) from error


def ledger_of_run(folder: str | Path) -> Path:
    """Path of a run's ledger when the run was made; SfumatoError for another folder."""
    return Path(_run_of(Path(folder))[1])


def reset_ledger(
    path: str | Path | None = None, runs: Sequence[str | Path] = ()
) -> list[dict[str, Any]]:
    """Accepts an older copy of the ledger, or of run folders, as the newest that exists.

    Returns the facts of the RESET rows. SfumatoError if none of them is an older copy.
    """
    named = [_run_of(Path(folder)) for folder in runs]
    place = Path(path or (named[0][1] if named else default_path()))
    if not place.exists():
        raise SfumatoError(
            "there is no ledger to reset: put a copy of it, with its key, where it was"
        )
    try:
        ledger = _accepted(place, needed=not named)
        known = len(ledger.resets) - bool(ledger.chain.lost)
        for folder, (run_id, _) in zip(runs, named):
            if not (ledger.chain.lost and ledger.agrees(run_id, Path(folder))):
                ledger.reset_run(run_id, Path(folder))
    except LedgerError as error:
        raise SfumatoError(str(error)) from error
    return ledger.resets[known:]


def _accepted(place: Path, needed: bool) -> Ledger:
    """The ledger, with a RESET row if it is an older copy.

    LedgerError if that is `needed` and it is none.
    """
    if not needed:
        try:
            return Ledger(place)
        except OlderCopy:
            pass
    return Ledger(place, restored=True)


def _run_of(folder: Path) -> tuple[str, str]:
    try:
        known = json.loads((folder / "run.json").read_text("utf-8"))
        return str(known["id"]), str(known["ledger"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SfumatoError(
            f"{folder} is not a run folder: name the folder of `sfumato adapt`"
        ) from error


def existing_ledger(path: str | Path | None = None, *, allow_file_system: bool = False) -> Ledger:
    """The ledger at `path` (default: the user's), never a new one.

    Its table of images is verified too.
    """
    place = Path(path or default_path())
    if not place.exists():
        raise LedgerFault(
            f"there is no ledger yet at {place}: the first `sfumato adapt` or `sfumato ledger cap`"
            " makes one; if there was one, put it back with the files beside it, or name it with"
            " --ledger"
        )
    ledger = open_ledger(place, allow_file_system=allow_file_system)
    try:
        ledger.verify_records()
    except LedgerError as error:
        raise in_words(error) from error
    return ledger


def set_cap(
    ledger: Ledger,
    fingerprints: Sequence[bytes],
    epsilon: float,
    *,
    raising: bool = False,
    files: Sequence[bytes] | None = None,
    units: Sequence[bytes] | None = None,
) -> float | None:
    """Cap what these images may cost; the cap before.

    SfumatoError for a figure that is none, and for a higher one unless `raising`.

    `files`, `units` as in `Ledger.identify`.
    """
    try:
        manifest = ledger.identify(fingerprints, files, units)
        return ledger.set_cap(manifest, epsilon, raising=raising).body["before"]
    except ValueError as error:
        raise in_words(error) from error


def price(charges: Sequence[dict[str, Any]], released: bool) -> float:
    """Epsilon of the bodies of CHARGE rows composed, rounded up to 3 decimals.

    Infinity if no accountant bounds it. If a later run was planned after an earlier one had an
    output (`released`), the Renyi figure counts if it is higher: composition with adaptively chosen
    steps is proven there (arXiv 1605.08294). All charges share relation and delta.
    """
    merged: dict[Any, int] = {}
    for event in dp_events.from_json([event for body in charges for event in body["events"]]):
        # Equal steps of several runs are one longer run, and much quicker to price.
        kind = (
            (event.sampling_rate, event.noise_multiplier)
            if isinstance(event, PoissonGaussian)
            else event
        )
        merged[kind] = merged.get(kind, 0) + (
            event.steps if isinstance(event, PoissonGaussian) else 1
        )
    events = tuple(
        event
        for kind, times in merged.items()
        for event in (
            [PoissonGaussian(kind[0], kind[1], times)]
            if isinstance(kind, tuple)
            else [kind] * times
        )
    )
    # good enough to choose the grid; composed they cost less
    at_most = sum(body["epsilon"] for body in charges)
    if at_most > 100 * accounting.MAX_EPSILON:
        return math.inf
    grid = (
        accounting.CERTIFICATE_GRID
        if at_most <= 20
        else accounting.PLANNING_GRID * max(1.0, at_most / 500)
    )
    return _priced(events, charges[0]["delta"], charges[0]["relation"], grid, released)


@lru_cache(maxsize=16)
def _priced(
    events: tuple[Any, ...], delta: float, relation: str, grid: float, released: bool
) -> float:
    try:
        found = accounting.epsilon_of(events, delta, relation, grid)
        if released:
            found = max(found, accounting.round_up(accounting.rdp_epsilon(events, delta, relation)))
        return found
    except (ValueError, OverflowError):
        return math.inf
