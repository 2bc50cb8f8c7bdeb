"""NOTE rows as types; each sort is known by a key that only it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfumato.privacy.ledger.entries import Entry


class Note(Entry):
    """What all of them share."""

    KIND = "NOTE"


@dataclass(frozen=True, kw_only=True)
class Begun(Note):
    """The ledger's first row."""

    MARK = "key"

    format: int
    key: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Upgraded(Note):
    """A file of an older format was brought to the newest; `rows`: how many it had."""

    MARK = "before"

    format: int
    before: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Interval(Note):
    """Steps, from and to, that an attempt is about to run."""

    MARK = "interval"

    interval: Sequence[int]
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Made(Note):
    """Weights that a run made (`made`: model, checkpoint, control), which are no public base.

    Keyed codes of their `blocks`, or of whole `tensors` in rows of earlier versions.
    """

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
class Shown(Note):
    """Pictures of the checkpoint at step `shown`, or of the model, are drawn for the owner next."""

    MARK = "shown"

    shown: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Stopped(Note):
    """The owner finished the run at the checkpoint of step `stopped`; it never trains on."""

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
class Aggregated(Note):
    """The one noisy sum of an inversion, by the hash of its embeddings."""

    MARK = "aggregated"

    aggregated: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class MomentsMade(Note):
    """The noisy class moments before training, by the hash of their file; once for a run."""

    MARK = "moments"

    moments: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Matched(Note):
    """How near public bases are to private images, as noisy votes have it.

    `matched`: names of the bases; `shares`: of the votes; `look_alikes`: class -> public words, by
    the nearest picture in pixels; `rule`: how an image found its base in `features` (none: the
    nearest picture). Of a run that chooses its base, `chosen` is the number of the one, and
    `attempt` who asked.
    """

    MARK = "matched"
    IF_ANY = frozenset({"rule", "look_alikes", "chosen", "attempt"})

    matched: Sequence[str]
    shares: Sequence[float]
    noise_multiplier: float
    features: str
    rule: str | None = None
    look_alikes: Mapping[str, Sequence[str]] | None = None
    chosen: int | None = None
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True)
class Audited(Note):
    """An audit's record, by its hash, and whether it passed."""

    MARK = "audit"

    audit: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Finished(Note):
    """`release` finished a certificate: a hash of it, and of its draft (`certificate`)."""

    MARK = "released"

    released: str
    certificate: str
    run: str
