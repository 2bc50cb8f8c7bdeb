"""`select`: which run is best on held-out private units, by one noisy sum.

The ledger is charged before an image is judged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np

from ..bases import base_info
from ..errors import SfumatoError
from ..evaluation import Classifier, train_classifier
from ..options import Machine, Reading, Sampling, Selecting, Values, gather, takes
from ..planning.facts import PublicFacts, require_clear_units
from ..planning.reading import require_read_so, valued_as
from ..privacy.ledger.entries import Charged, Selected
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.runs import RunLedger
from ..privacy.mechanisms.selection import NAME, STEP, Selection
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import noisy_vector
from ..records import RecordSet, load_records, require_read_as_today
from ..releases import CERTIFICATE, DRAFT
from ..runs import budget
from ..runs.attempts import require_sealed
from ..runs.folder import Run
from .drawing import draw_as_released
from .keywords import SelectOptions
from .machine import computes
from .paid import charge, priced, terms_for
from .pictures import require_pictures
from .real_images import images_of

# slots in one pass; fixed by slot alone, so that no unit's content moves another's answer
BATCH = 500


@dataclass(frozen=True)
class Candidate:
    """A candidate of a selection.

    A name, the run's id in the ledger, its classes, what its run declared of stored values (None:
    a folder does not say), and the classifier trained on its synthetic images.
    """

    name: str
    run: str
    classes: tuple[str, ...]
    resolution: int
    pictures: Callable[[], tuple[np.ndarray, np.ndarray]]
    values: Values | None = None


@dataclass(frozen=True)
class SelectionReport:
    """Noisy accuracies of candidates on held-out units, which one is best, and what it cost.

    All of it may be released.

    accuracies, standard_errors: one for each of `candidates`, shares; noise_error: deviation by the
    noise alone. chosen: the index of the best. composes: whether a candidate's training images and
    the held-out ones belong together, so that their costs add up (None: not known to this ledger).
    total_epsilon: of all that was charged on the held-out images (None: not bounded).
    """

    candidates: tuple[str, ...]
    runs: tuple[str, ...]
    accuracies: tuple[float, ...]
    standard_errors: tuple[float, ...]
    noise_error: float
    chosen: int
    epsilon: float
    delta: float
    unit: str
    relation: str
    n_units: int
    noise_multiplier: float
    composes: tuple[bool | None, ...]
    total_epsilon: float | None
    id: str

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            key: list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


@takes(reading=Reading, selecting=Selecting, machine=Machine)
@computes
def select(
    runs: Sequence[Run | str | Path],
    *,
    data: str | Path | RecordSet,
    ledger: str | Path | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Unpack[SelectOptions],
) -> SelectionReport:
    """Chooses the best run by its accuracy on held-out private units, asked once and noisily.

    A classifier is trained on each candidate's synthetic images. The one mechanism is a Gaussian
    one on the sum of what the units add (`privacy.mechanisms.selection`). It is charged on the
    held-out images' group before one of them is judged: if they share an image or unit with a
    training set, costs add up there; else each unit is in one set only. The result is a SELECT row
    and appears in later certificates of the candidates; it is no look.

    Args:
        runs: Run folders (of each, images are drawn) or folders of `synthesize`, finished or not.
        data: Held-out private images with their labels.
        ledger: Where the runs' ledger is, if it was moved.
        on_stage: Called with a line for every stage that begins.
        options: Fields of `Reading`, `Selecting` and `Machine`, or whole objects; `epsilon` is
            required.

    Returns:
        Noisy accuracies, the choice, and what it cost.

    Raises:
        SfumatoError: Runs that cannot be compared, a promise that cannot be met; nothing is charged
            then unless the message says so.
    """  # noqa: DOC501 (in_words makes a SfumatoError)
    found = gather({"reading": Reading, "selecting": Selecting}, options, ("data", "ledger"))
    reading: Reading = found["reading"]
    asked: Selecting = found["selecting"]
    if asked.epsilon is None:
        raise SfumatoError("--epsilon is required: the privacy budget spent on the held-out units")
    if isinstance(data, RecordSet):
        require_read_so(data, reading)
    if not runs:
        raise SfumatoError("no run to choose from: give at least one run folder")
    candidates = [_candidate(run, ledger, asked) for run in runs]
    classes = candidates[0].classes
    for other in candidates:
        if other.classes != classes or len(classes) < 2:
            why = (
                "has one class only: there is nothing to classify"
                if len(classes) < 2
                else "has other classes"
            )
            raise SfumatoError(
                f"{other.name} {why}; select compares runs with the same two classes or more"
            )
    if isinstance(data, RecordSet):
        records = data
    else:
        listed = list(classes) if reading.classes is None else reading.classes
        reading = _valued_as_all(reading, candidates)
        part = "train" if reading.split is None else "test"
        records = load_records(data, **replace(reading, classes=listed).keywords(), part=part)
    require_read_as_today(records)
    doubtful = require_clear_units(PublicFacts.of(records), asked.allow_doubtful_units)
    if tuple(records.classes) != classes:
        raise SfumatoError(
            "the held-out images have other classes than the runs: give the runs' list with"
            " --classes"
        )
    book = _ledger_of(candidates, runs, ledger)
    known = budget.standing(
        book, records.fingerprints, **records.marks, unit=records.unit_column or "record"
    )
    terms = terms_for(records, asked.delta, asked.relation, known.terms)
    event, spent = priced(asked.epsilon, terms)
    mechanism = Selection(len(candidates), records.n_units, event.noise_multiplier)
    judges: list[Classifier] = []
    for candidate in candidates:
        on_stage(f"training a classifier on images of {candidate.name}")
        judges.append(
            train_classifier(
                asked.classifier,
                *candidate.pictures(),
                len(classes),
                seed=asked.seed,
                steps=asked.steps,
            )
        )
    own = RunLedger(book, os.urandom(8).hex())
    on_stage("charging the ledger")
    wanted = {"kind": "selection", "runs": [c.run for c in candidates]}
    made = charge(own, records, terms, event, spent, wanted, doubtful)
    on_stage("asking about the held-out images")
    noisy = _ask(mechanism, judges, [c.resolution for c in candidates], records)
    accuracies = mechanism.accuracies(noisy)
    chosen = int(np.argmax(noisy))
    group = book.datasets.group(frozenset({made.dataset}))
    inside = {body["run"] for body in group.charges}
    composes = tuple(
        c.run in inside if book.chain.of(Charged.KIND, c.run) else None for c in candidates
    )
    errors = tuple(mechanism.standard_error(value) for value in accuracies)
    selected = Selected(
        runs=[c.run for c in candidates],
        chosen=candidates[chosen].run,
        accuracies=list(accuracies),
        standard_errors=list(errors),
        held_out_units=records.n_units,
        noise_multiplier=event.noise_multiplier,
        composes=list(composes),
    )
    try:
        own.enter(selected)
    except ValueError as error:
        raise budget.in_words(error) from error
    return SelectionReport(
        tuple(c.name for c in candidates),
        tuple(c.run for c in candidates),
        accuracies,
        errors,
        mechanism.noise_error,
        chosen,
        spent,
        terms["delta"],
        terms["unit"],
        terms["relation"],
        records.n_units,
        event.noise_multiplier,
        composes,
        made.total,
        own.run_id,
    )


def _valued_as_all(reading: Reading, candidates: Sequence[Candidate]) -> Reading:
    """Held-out images are read as the runs read theirs; SfumatoError if these do not agree."""
    declared = {c.values for c in candidates if c.values is not None}
    if len(declared) > 1:
        raise SfumatoError(
            "the runs declared different stored values (--range, --window, --invert, --background):"
            " select compares runs that agree"
        )
    return valued_as(reading, declared.pop()) if declared else reading


def _candidate(run: Run | str | Path, ledger: str | Path | None, asked: Selecting) -> Candidate:
    if isinstance(run, Run) or (Path(run) / "plan.json").is_file():
        run = run if isinstance(run, Run) else Run.open(run, ledger)
        require_sealed(run)
        sampling = Sampling(steps=asked.sampler_steps, seed=asked.seed)
        return Candidate(
            str(run.folder), run.id, tuple(run.plan.classes), base_info(run.plan.base).resolution,
            lambda: draw_as_released(run, asked.images, sampling),
            Values.kept(run.options),
        )  # fmt: skip
    folder = Path(run)
    require_pictures(folder)
    try:
        name = CERTIFICATE if (folder / CERTIFICATE).exists() else DRAFT
        body = json.loads((folder / name).read_text("utf-8"))
        facts = body.get("certificate", body)
        classes, side = (
            tuple(facts["public_facts"]["classes"]),
            int(facts["synthesis"]["resolution"]),
        )
        known = str(facts["ledger"]["run"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SfumatoError(
            f"{folder} is neither a run folder nor a folder of `sfumato synthesize`: name one"
        ) from error
    return Candidate(
        str(folder), known, classes, side, lambda: images_of(folder, classes, side, "train")
    )


def _ledger_of(
    candidates: Sequence[Candidate], runs: Sequence[Run | str | Path], ledger: str | Path | None
) -> Ledger:
    """The one ledger that knows the runs; SfumatoError if they are in several."""
    places: set[Path] = {Path(ledger).absolute()} if ledger else set()
    for run in runs:
        if isinstance(run, Run) or (Path(run) / "plan.json").is_file():
            places.add((run if isinstance(run, Run) else Run.open(run, ledger)).ledger_path)
    if len(places) > 1:
        raise SfumatoError(
            "the runs are in different ledgers, so their costs cannot be added up: choose among"
            " runs of one ledger (--ledger)"
        )
    return budget.open_ledger(places.pop() if places else budget.default_path())


def _ask(
    mechanism: Selection, judges: Sequence[Classifier], sides: Sequence[int], records: RecordSet
) -> np.ndarray:
    """The noisy sums, int64 [candidates]; nothing exact outlives this function."""
    total = mechanism.total(*right_answers(judges, sides, records))
    key = RunKey.generate()  # never written down: nobody can take the noise off again
    return noisy_vector(total, mechanism.noise_stddev, key, step=STEP, attempt=0, name=NAME)


def right_answers(
    judges: Sequence[Classifier], sides: Sequence[int], records: RecordSet
) -> tuple[np.ndarray, np.ndarray]:
    """Counts each unit's correctly classified images, for every candidate. PRIVATE.

    All slots pass in the order of the source, `BATCH` at a time, unusable ones as black images
    that are not counted: leaving a unit out changes no shape of any computation, and so no other
    unit's answer.

    Returns:
        int64 [units, candidates] correct answers; int64 [units] images that were counted.
    """
    right = np.zeros((records.n_units, len(judges)), np.int64)
    there = np.zeros(records.n_units, np.int64)
    for start in range(0, records.n, BATCH):
        slots = records.reading_order[start : start + BATCH]
        loaded = {side: records.load(slots, side) for side in sorted(set(sides))}
        good = np.logical_and.reduce([found[1] for found in loaded.values()]) & (
            records.labels[slots] >= 0
        )
        np.add.at(there, records.unit[slots[good]], 1)
        for column, (judge, side) in enumerate(zip(judges, sides)):
            answers = judge.predict(loaded[side][0]) == records.labels[slots]
            np.add.at(right[:, column], records.unit[slots[good & answers]], 1)
    return right, there
