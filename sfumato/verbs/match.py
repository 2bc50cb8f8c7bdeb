"""`match`: which public base is nearest to private images, by noisy votes.

The ledger is charged before an image is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..bases import BaseInfo, base_info, bundled_bases, load_base
from ..errors import SfumatoError
from ..methods.evolution.spaces import pixels
from ..methods.evolution.voting import noisy_votes
from ..options import Machine, Matching, Reading, Sampling, gather, takes
from ..planning.choosing import require_different, require_grid
from ..planning.facts import PublicFacts, require_clear_units, require_list
from ..planning.provenance import trace_base
from ..planning.reading import records_of
from ..privacy.ledger.notes import Matched
from ..privacy.ledger.runs import RunLedger
from ..privacy.mechanisms.histogram import GRID, VoteHistogram
from ..privacy.random.keys import RunKey
from ..records import RecordSet, require_read_as_today
from ..runs import budget
from ..runs.matching import PIXELS, TODAY, bases_asked, nearest_pictures, owned
from .keywords import MatchOptions
from .machine import computes
from .paid import charge, priced, terms_for
from .row_images import draw

STANDS_OUT = 2.0  # standard deviations of the noise from which a look-alike is named
SHOWN = 3  # look-alikes of a class, at most
WIDTH = 1.96  # of an interval of 95 %, in standard errors


@dataclass(frozen=True)
class MatchReport:
    """How near public bases are to private images, nearest first, and what it cost.

    All of it may be released.

    Attributes:
        bases: Names, nearest first.
        shares: Noisy share of the units' votes for each; may lie outside 0 to 1.
        low: Lower end of the interval of 95 %, which includes the noise.
        high: Upper end.
        clear: Whether the first interval lies above all others.
        look_alikes: Class -> the words whose pictures are nearest to it, those whose votes stand
            out of the noise; empty without `words`.
        epsilon: What it cost.
        delta: At this delta.
        unit: "record", or the unit column.
        relation: What a neighbouring data set is.
        n_units: How many units voted, unreadable ones included.
        noise_multiplier: In votes.
        features: The public space in which pictures were compared.
        rule: How an image found its base there.
        total_epsilon: Of all that was charged on these images (None: not bounded).
        id: The question's number in the ledger.
    """

    bases: tuple[str, ...]
    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    clear: bool
    look_alikes: dict[str, tuple[str, ...]]
    epsilon: float
    delta: float
    unit: str
    relation: str
    n_units: int
    noise_multiplier: float
    features: str
    rule: str
    total_epsilon: float | None
    id: str

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


@takes(reading=Reading, matching=Matching, machine=Machine)
@computes
def match(
    images: str | Path | RecordSet,
    *,
    ledger: str | Path | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Unpack[MatchOptions],
) -> MatchReport:
    """Says which public base is nearest to private images, asked once and noisily.

    Each candidate draws equally many pictures of all that it knows (the empty prompt); a unit votes
    for the base whose pictures, as a Gaussian, make its images likeliest, with norm 1 in all,
    whatever it owns. With `words`, that base draws pictures of each, and units vote, class by
    class, for the word of the picture that is nearest in pixels. The histograms are one Gaussian
    mechanism each; both are charged before an image is looked at. The answer is a row of the
    ledger, and an output: runs planned after it pass the Renyi filter with it.

    Args:
        images: The private images, as for `inspect`.
        ledger: The owner's ledger (default: as for `adapt`).
        on_stage: Called with a line for every stage that begins.
        options: Fields of `Reading`, `Matching` and `Machine`, or whole objects; `epsilon` is
            required.

    Returns:
        The ranking with intervals, look-alikes, and what it cost.

    Raises:
        SfumatoError: Fewer than two bases, bases that cannot draw, classes that the answer would
            give away, a promise that cannot be met; nothing is charged then.
    """  # noqa: DOC501 (in_words makes a SfumatoError)
    found = gather({"reading": Reading, "matching": Matching}, options, ("images", "ledger"))
    reading: Reading = found["reading"]
    asked: Matching = found["matching"]
    if asked.epsilon is None:
        raise SfumatoError("--epsilon is required: the privacy budget spent on the question")
    known_bases, words = _candidates(asked), tuple(asked.words or ())
    names, side = tuple(known_bases), min(info.resolution for info in known_bases.values())
    on_stage("reading the images")
    records = records_of(images, reading)
    require_read_as_today(records)
    facts = PublicFacts.of(records)
    if words:  # the answer then names the classes
        require_list(facts)
    doubtful = require_clear_units(facts, asked.allow_doubtful_units)
    book = budget.open_ledger(ledger or budget.default_path())
    known = budget.standing(
        book, records.fingerprints, **records.marks, unit=records.unit_column or "record"
    )
    ancestors = [run for name in names for run in trace_base(name, book)]
    terms = terms_for(records, asked.delta, asked.relation, known.terms)
    event, spent = priced(asked.epsilon, terms, 2 if words else 1)
    # All that can fail is done first: nothing private has been looked at yet.
    sampling = Sampling(steps=asked.sampler_steps, seed=asked.seed)
    tables = [features_of(name, [""], asked.samples, sampling, on_stage) for name in names]
    table = TODAY.table_of(tables)
    of_word = max(10, asked.samples // max(1, len(words)))
    said = [
        features_of(name, words, of_word * len(words), sampling, on_stage, pixels)
        if words
        else None
        for name in names
    ]
    own = RunLedger(book, os.urandom(8).hex())
    on_stage("charging the ledger")
    wanted = {"kind": "match", "bases": list(names), "words": list(words)}
    wanted |= {"features": TODAY.features, "rule": TODAY.rule, "samples": asked.samples}
    wanted |= {"digests": [info.digest for info in known_bases.values()]}
    wanted |= {"sampler_steps": sampling.steps, "seed": sampling.seed}
    made = charge(own, records, terms, event, spent, wanted, doubtful, ancestors)
    on_stage("asking about the images")
    key = RunKey.generate()  # never written down: nobody can take the noise off again
    votes = bases_asked(records, side, table, event.noise_multiplier, key)
    order = np.argsort(-votes, kind="stable")
    alike: dict[str, tuple[str, ...]] = {}
    best = said[int(order[0])]
    if best is not None:
        noisy = _words_asked(records, side, best, len(words), event.noise_multiplier, key)
        alike = _look_alikes(records.classes, words, noisy, event.noise_multiplier)
    shares, low, high = _intervals(votes[order], event.noise_multiplier, records.n_units)
    ranked = tuple(names[i] for i in map(int, order))
    answer = Matched(
        matched=[Path(name).name for name in ranked],
        shares=list(shares),
        noise_multiplier=event.noise_multiplier,
        features=TODAY.features,
        rule=TODAY.rule,
        look_alikes={name: list(found) for name, found in alike.items()} or None,
    )
    try:
        own.enter(answer)
    except ValueError as error:
        raise budget.in_words(error) from error
    return MatchReport(
        ranked,
        shares,
        low,
        high,
        low[0] > max(high[1:]),
        alike,
        spent,
        terms["delta"],
        terms["unit"],
        terms["relation"],
        records.n_units,
        event.noise_multiplier,
        answer.features,
        TODAY.rule,
        made.total,
        own.run_id,
    )


def _candidates(asked: Matching) -> dict[str, BaseInfo]:
    """The bases, each opened once for its settings; SfumatoError for too few or unfit ones."""
    names = tuple(bundled_bases()) if asked.bases is None else tuple(asked.bases)
    if len(names) < 2 or len(set(names)) < len(names):
        raise SfumatoError(
            "--bases: name at least two public bases, each once: with one there is nothing to"
            " choose"
        )
    words = asked.words
    if words is not None and (len(words) < 2 or len(set(words)) < len(words)):
        raise SfumatoError("--words: name at least two public words, each once")
    found = {name: base_info(name) for name in names}
    for name, info in found.items():
        if info.condition == "none" and words is not None:
            raise SfumatoError(f"--words: the base {name} is told nothing: leave one of them out")
        require_grid(info)
    require_different(names, list(found.values()))
    return found


def features_of(
    name: str,
    prompts: Sequence[str],
    n: int,
    sampling: Sampling,
    on_stage: Callable[[str], None],
    of_pictures: Callable[[np.ndarray], np.ndarray] = TODAY.of_pictures,
) -> np.ndarray:
    """Features float32 [n, d] of pictures that a base draws, prompt by prompt."""
    on_stage(f"drawing pictures of {Path(name).name}")
    drawn, labels = draw(load_base(name), prompts, n, sampling)
    return of_pictures(drawn)[np.argsort(labels, kind="stable")]


def _words_asked(
    records: RecordSet, side: int, table: np.ndarray, words: int, sigma: float, key: RunKey
) -> np.ndarray:
    """Noisy votes of all units for words, class by class: float64 [classes, words]."""
    classes = len(records.classes)
    named = nearest_pictures(records, side, table) // (len(table) // words)
    sound = (named >= 0) & (records.labels >= 0)
    named = np.where(sound, records.labels * words + named, -1)
    voting = VoteHistogram(classes * words, classes, 1, PIXELS)
    noisy = noisy_votes(voting, sigma, named[:, None], owned(records), key, 1, 0)
    return (noisy / GRID).reshape(classes, words)


def _intervals(
    votes: np.ndarray, sigma: float, n_units: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Shares of the votes, and the ends of their intervals: the noise, and who the units were."""
    shares = votes / n_units
    inside = np.clip(shares, 0, 1)
    error = WIDTH * np.sqrt(sigma**2 + n_units * inside * (1 - inside)) / n_units
    ends = (shares, shares - error, shares + error)
    return tuple(tuple(float(x) for x in row) for row in ends)  # pyright: ignore[reportReturnType]


def _look_alikes(
    classes: Sequence[str], words: Sequence[str], noisy: np.ndarray, sigma: float
) -> dict[str, tuple[str, ...]]:
    """The words of each class whose votes stand out of the noise, most first."""
    found: dict[str, tuple[str, ...]] = {}
    for name, row in zip(classes, noisy):
        best = np.argsort(-row, kind="stable")[:SHOWN]
        found[name] = tuple(words[i] for i in map(int, best) if row[i] > STANDS_OUT * sigma)
    return found
