"""NOTE rows as types; each sort is known by a key that only it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.privacy.ledger.entries import Entry


@dataclass(frozen=True, kw_only=True)
class Begun(Entry):
    """The ledger's first row."""

    KIND = "NOTE"
    MARK = "key"

    format: int
    key: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Upgraded(Entry):
    """A file of an older format was brought to the newest; `rows`: how many it had."""

    KIND = "NOTE"
    MARK = "before"

    format: int
    before: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Interval(Entry):
    """Steps, from and to, that an attempt is about to run."""

    KIND = "NOTE"
    MARK = "interval"

    interval: Sequence[int]
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Made(Entry):
    """Weights that a run made (`made`: model, checkpoint, control), which are no public base.

    Keyed codes of their `blocks`, or of whole `tensors` in rows of earlier versions.
    """

    KIND = "NOTE"
    MARK = "made"
    IF_ANY = frozenset({"made", "blocks", "tensors"})

    made: str | None = None
    blocks: str | None = None
    tensors: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointMade(Made):
    """A checkpoint, by its step and its file's hash."""

    MARK = "checkpoint"
    IF_ANY = Made.IF_ANY | {"sha256"}

    checkpoint: int
    attempt: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shown(Entry):
    """Pictures of the checkpoint at step `shown` are about to be drawn for the owner."""

    KIND = "NOTE"
    MARK = "shown"

    shown: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Stopped(Entry):
    """The owner finished the run at the checkpoint of step `stopped`; it never trains on."""

    KIND = "NOTE"
    MARK = "stopped"

    stopped: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class ModelMade(Made):
    """The finished model, by the hash of its files; once for an attempt."""

    MARK = "model"

    model: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Aggregated(Entry):
    """The one noisy sum of an inversion, by the hash of its embeddings."""

    KIND = "NOTE"
    MARK = "aggregated"

    aggregated: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Audited(Entry):
    """An audit's record, by its hash, and whether it passed."""

    KIND = "NOTE"
    MARK = "audit"

    audit: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Finished(Entry):
    """`release` finished a certificate: a hash of it, and of its draft (`certificate`)."""

    KIND = "NOTE"
    MARK = "released"

    released: str
    certificate: str
    run: str
