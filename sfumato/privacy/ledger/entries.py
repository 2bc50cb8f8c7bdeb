"""The rows of a ledger as types: every key of every kind of row; those of NOTE rows are in `notes`.

A row of the chain has a kind and a body, a JSON object. An entry is that body: its fields are the
keys. `of_body` reads rows of every version; what earlier ones did not write is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from sfumato.privacy.ledger.faults import LedgerError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The body of one kind of row.

    Attributes:
        KIND: The row's kind.
        MARK: The key that tells this sort from others of its kind; None if there is one sort.
        IF_ANY: Fields that have no key in the body where they are None.
        KEYS: Keys of fields which cannot bear the name: words of Python, or the row's own kind.
    """

    KIND: ClassVar[str]
    MARK: ClassVar[str | None] = None
    IF_ANY: ClassVar[frozenset[str]] = frozenset()
    KEYS: ClassVar[Mapping[str, str]] = {}

    def to_body(self) -> dict[str, Any]:
        """The JSON object that is hashed, chained and kept."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            self.KEYS.get(name, name): value
            for name, value in said.items()
            if value is not None or name not in self.IF_ANY
        }

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `body`; unknown keys, of a later version, are ignored.

        Returns:
            The entry.

        Raises:
            LedgerError: A key is missing that every version has written.
        """
        keys = {field.name: cls.KEYS.get(field.name, field.name) for field in fields(cls)}
        try:
            return cls(**{name: body[key] for name, key in keys.items() if key in body})
        except TypeError as error:
            raise LedgerError(
                f"a {cls.KIND} row lacks what it must say: put the newest whole copy back"
            ) from error

    @classmethod
    def is_in(cls, kind: str, body: Mapping[str, Any]) -> bool:
        """Whether a row of this kind with this body is of this sort."""
        return kind == cls.KIND and (cls.MARK is None or cls.MARK in body)


# Rows of the ledger itself.


@dataclass(frozen=True, kw_only=True)
class Opened(Entry):
    """A data set, or a listing of one with files and units, that was not known before."""

    KIND = "OPEN"
    IF_ANY = frozenset({"listing"})

    dataset: str
    listing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Joined(Entry):
    """A data set shares an image or a unit with others."""

    KIND = "JOIN"
    KEYS: ClassVar[Mapping[str, str]] = {"others": "with"}

    dataset: str
    others: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Capped(Entry):
    """The owner's cap on what data sets may cost.

    `raising`: None in rows of format 1, where the last cap counted.
    """

    KIND = "CAP"
    IF_ANY = frozenset({"raising"})
    KEYS: ClassVar[Mapping[str, str]] = {"raising": "raise"}

    datasets: Sequence[str]
    epsilon: float
    before: float | None = None
    raising: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Reset(Entry):
    """An older copy was accepted, of the ledger or of a run folder.

    Or nothing outside the ledger's folder knew of its charges (`unwitnessed`). `missing`: how many
    rows are known to be lost; None: unknown.
    """

    KIND = "RESET"
    IF_ANY = frozenset({"run", "older", "unwitnessed"})

    rows: int
    missing: int | None
    noted: Sequence[str]
    run: str | None = None
    older: str | None = None
    unwitnessed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class OnDisk(Entry):
    """The owner accepted a file system that is not known to be a local disk."""

    KIND = "DISK"

    file_system: str


# Rows of a run.


@dataclass(frozen=True, kw_only=True)
class Planned(Entry):
    """The plan of a run, by its digest. Of a selection (`sort` = "selection") the whole of it."""

    KIND = "PLAN"
    IF_ANY = frozenset({"key_id", "options", "sort", "runs", "unit", "relation", "n_units"})
    KEYS: ClassVar[Mapping[str, str]] = {"sort": "kind"}

    digest: str
    epsilon: float
    delta: float
    key_id: str | None = None
    options: str | None = None
    sort: str | None = None
    runs: Sequence[str] | None = None
    unit: str | None = None
    relation: str | None = None
    n_units: int | None = None


@dataclass(frozen=True, kw_only=True)
class Charge(Entry):
    """What a run asks to be charged with: all its events, in the form of `events.to_json`.

    `data`: keyed digest of the records; `prices`: hash of the certificate's prices; `lineage`: runs
    that base and public images come from; `doubtful_units`: of a selection.
    """

    KIND = "CHARGE"
    IF_ANY = frozenset(
        {"max_per_unit", "plan", "data", "prices", "lineage", "sort", "doubtful_units", "listing"}
    )
    KEYS: ClassVar[Mapping[str, str]] = {"sort": "kind"}

    events: Sequence[Mapping[str, Any]]
    unit: str
    relation: str
    delta: float
    epsilon: float
    max_per_unit: int | None = None
    plan: str | None = None
    data: str | None = None
    prices: str | None = None
    lineage: Sequence[Mapping[str, Any]] | None = None
    sort: str | None = None
    doubtful_units: int | None = None


@dataclass(frozen=True, kw_only=True)
class Charged(Charge):
    """A charge as it is in the ledger.

    With the images' data set, the cap at that time, the group's `total` (None: cannot be stated)
    and the set of captions.
    """

    dataset: str
    listing: str | None = None
    cap: float | None = None
    total: float | None = None
    captions: str | None = None


@dataclass(frozen=True, kw_only=True)
class TakenAsPublic(Entry):
    """Images that a run took as public, and what they decided."""

    KIND = "PUBLIC"

    what: str
    decided: str
    count: int
    digest: str
    set: str


@dataclass(frozen=True, kw_only=True)
class Attempt(Entry):
    """A start of training.

    `billed`: steps paid from the retry reserve; `salt`: of its draws; `fingerprint`: what decides
    its bits.
    """

    KIND = "ATTEMPT"
    IF_ANY = frozenset({"attempt"})

    from_step: int
    billed: int
    salt: str
    data: str
    fingerprint: Mapping[str, Any]
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True)
class Replayed(Entry):
    """A free continuation of an attempt with the same draws."""

    KIND = "REPLAY"

    attempt: int
    from_step: int


@dataclass(frozen=True, kw_only=True)
class Probed(Entry):
    """The noisy scores of the probe, once, and what they chose to train."""

    KIND = "PROBE"

    attempt: int
    scores: Sequence[float]
    selected: Sequence[str]
    targets: Sequence[str]
    trainable: int


@dataclass(frozen=True, kw_only=True)
class Released(Entry):
    """Something was released: `n` images drawn with a public seed, or the model."""

    KIND = "RELEASE"
    IF_ANY = frozenset({"n", "seed"})
    KEYS: ClassVar[Mapping[str, str]] = {"sort": "kind"}

    sort: str
    n: int | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Certified(Entry):
    """Hashes of a draft, of its certificate's statements and of its files.

    `outputs`: that its total counts every output of earlier runs, as that of no earlier version.
    """

    KIND = "CERTIFY"
    IF_ANY = frozenset({"key_kept", "certificate", "files", "outputs"})

    draft: str
    key_kept: bool | None = None
    certificate: str | None = None
    files: str | None = None
    outputs: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Looked(Entry):
    """Somebody sees exact figures.

    `rows`: what was compared; `data`: data sets seen beside the run's own.
    """

    KIND = "LOOK"

    what: Sequence[str]
    rows: Sequence[str]
    internal: bool
    data: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Selected(Entry):
    """A choice among runs by noisy accuracies.

    `composes`: whether its cost is in each run's group; None: not known here.
    """

    KIND = "SELECT"

    runs: Sequence[str]
    chosen: str
    accuracies: Sequence[float]
    standard_errors: Sequence[float]
    held_out_units: int
    noise_multiplier: float
    composes: Sequence[bool | None]
