"""The caller's options, split by use, and public images on their way into a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..bases import load_base
from ..compute import ranks
from ..errors import DataError, SfumatoError
from ..methods import Method, Prepared
from ..options import Reading, Values
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.public import PublicInput, copies
from ..privacy.plan import Plan
from ..records import RecordSet, require_read_as_today
from ..runs import budget
from ..synthesis.prompts import read_prompts
from .facts import PublicFacts
from .fit import fit_of
from .prepare import prepare, prompts_for
from .provenance import trace_base, trace_images
from .reading import Source, flat_as_one_class, records_of, valued_as
from .task import Task
from .timing import in_time

T = TypeVar("T")
FORECAST = "the forecast before the charge"  # what the images of --stand-in decide


def on_terms(task: Task, known: budget.Standing) -> Task:
    """The task with the delta of earlier charges on these images, if none is given.

    Only costs at equal delta add up.
    """
    if task.privacy.delta is None and known.terms is not None:
        return replace(task, privacy=replace(task.privacy, delta=known.terms["delta"]))
    return task


def prepare_as_asked(
    records: RecordSet,
    task: Task,
    public: Source | None = None,
    ledger: str | Path | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Prepared[Any]:
    """`prepare` with everything that is taken as public looked at first: images, base and words.

    Args:
        records: The private images.
        task: What is asked.
        public: Images that need no protection.
        ledger: The owner's, whose private images, weights and captions no public input may be;
            None if there is none yet.
        on_stage: Called with a line where a base is tried on public images.

    Raises:
        SfumatoError: Exit code 10 for images, 11 for a base, 12 for private images that were
            public before.
    """
    require_read_as_today(records)
    _require_classes(records, task.method)
    ancestors = _on_book(ledger, lambda book: _of_base(book, task.base, records))
    as_private = Reading(**records.values.as_options())
    inputs: list[PublicInput] = []
    if public is not None:
        reading = unlabelled_if_flat(public, as_private, task.method)
        images, before = _taken_as_public("--public-data", public, reading, records, ledger)
        ancestors += before
        words = " and ".join(task.method.public_purposes)
        inputs.append(PublicInput(words, images.fingerprints, images.marks["files"]))
        answers = task.method.public_answers(
            task.base,
            task.prompting,
            task.seed,
            images,
            records.classes,
            task.performance.precision,
        )
        task = replace(task, public=answers)
    facts, trying = PublicFacts.of(records), 0.0
    if task.privacy.stand_in is not None:
        stand_in = task.privacy.stand_in
        reading = flat_as_one_class(stand_in, as_private)
        images, before = _taken_as_public("--stand-in", stand_in, reading, records, ledger)
        ancestors += before
        inputs.append(PublicInput(FORECAST, images.fingerprints, images.marks["files"]))
        started = time.perf_counter()  # from here on nothing private takes time
        prompts = prompts_for(load_base(task.base), facts.classes, task)
        fit = fit_of(task.base, facts.classes, prompts, images, on_stage)
        task, trying = replace(task, fit=fit), time.perf_counter() - started
    made = partial(prepare, facts)
    prepared = made(task) if task.schedule.time is None else in_time(task, made, trying)
    _require_no_captions(prepared, task, records, ledger)
    return replace(prepared, public_inputs=tuple(inputs), ancestors=ancestors)


def _require_classes(records: RecordSet, method: Method) -> None:
    """DataError if the method needs an image of every class and one has none."""
    if not method.every_class:
        return
    found = set(records.labels[records.usable].tolist())
    empty = [name for i, name in enumerate(records.classes) if i not in found]
    if empty:
        raise DataError(
            f"--method {method.name}: no image has the class {empty[0]}, so nothing votes for it:"
            " leave it out of --classes"
        )


def _on_book(place: str | Path | None, ask: Callable[[Ledger | None], T]) -> T:
    """What `ask` finds in the ledger, or without one; on the first rank, where the ledger lies."""
    return ranks.on_first_rank(lambda: ask(None if place is None else budget.open_ledger(place)))


def _of_base(book: Ledger | None, base: str, records: RecordSet) -> tuple[dict[str, Any], ...]:
    if book is not None:
        try:
            book.require_untaken(book.identify(records.fingerprints, **records.marks))
        except ValueError as error:
            raise budget.in_words(error) from error
    return trace_base(base, book)


def _taken_as_public(
    flag: str, public: Source, reading: Reading, records: RecordSet, ledger: str | Path | None
) -> tuple[RecordSet, tuple[dict[str, Any], ...]]:
    """Images that the user declares public, read, and the runs that they come from.

    Raises:
        SfumatoError: They are, or a ledger knows them as, private.
    """
    place = Path(public.source if isinstance(public, RecordSet) else public)
    before = _on_book(ledger, lambda book: trace_images(place, book, DataError, flag))
    images = records_of(public, replace(reading, yes_public=True))
    _require_apart(images, records, flag)
    _on_book(ledger, lambda book: _require_uncharged(images, book, flag))
    return images, before


def _require_apart(public: RecordSet, records: RecordSet, flag: str) -> None:
    """SfumatoError if a private image is among the public ones.

    What is learnt from those is released exactly, and not paid for.
    """
    both = max(
        _in_common(public.fingerprints, records.fingerprints),
        # a crop, or another frame, of a file that is public as a whole
        _in_common(public.marks["files"], records.marks["files"]),
    )
    if both:
        raise SfumatoError(
            f"{both} images of {flag} are also among the private images, where nothing would"
            " protect them: remove them from one of the two"
        )


def _in_common(some: Sequence[bytes] | None, others: Sequence[bytes] | None) -> int:
    return len(({*(some or ())} - {b""}).intersection(others or ()))


def _require_uncharged(public: RecordSet, book: Ledger | None, flag: str) -> None:
    if book is None:
        return
    both = book.public.charged(book.identify(public.fingerprints, public.marks["files"]))
    if both:
        raise DataError(
            f"{both} images of {flag} were charged as private in this ledger, and nothing"
            f" would protect them here: remove them from {flag}"
        )


def _require_no_captions(
    prepared: Prepared[Any], task: Task, records: RecordSet, ledger: str | Path | None
) -> None:
    """Tells the owner, and nobody else, that published words are private captions.

    Captions of these records, or of images that the ledger has charged. With the flag nothing is
    asked, so that what a release says of it follows from the flag alone.

    Raises:
        SfumatoError: They are.
    """
    if task.privacy.allow_caption_prompts:
        return
    words = prepared.options["prompts"]
    texts = [*words["prompts"], *(text for text in words["initializers"] if text)]
    texts.append(prepared.options["statements"]["tuning"] or "")
    if (file := task.prompting.prompts_file) is not None:
        texts += read_prompts(file, records.classes).texts

    def charged(book: Ledger | None) -> int:
        return 0 if book is None else book.public.captions(texts, records.classes)

    _require_own_words(
        copies(texts, records.captions or (), records.classes), "in the private table"
    )
    _require_own_words(_on_book(ledger, charged), "of images that were charged before")


def _require_own_words(copied: int, where: str) -> None:
    if copied:
        raise SfumatoError(
            f"{copied} of the prompts or --init texts are, or contain, captions {where}, and"
            " prompts are published: reword them, or let them stand with --allow-caption-prompts"
            " (recorded)"
        )


def unlabelled_if_flat(path: Source, reading: Reading, method: Method | type[Method]) -> Reading:
    """A token method takes a plain folder of images as one class.

    Nobody sorts 50 drawings into folders.
    """
    return flat_as_one_class(path, reading) if method.learns_tokens else reading


def as_planned(reading: Reading, plan: Plan, values: Values) -> Reading:
    """How a run's own images are read again.

    With the plan's class list, however that was found, and as the run declared stored `values`.
    The run's digest decides whether they are the same.
    """
    reading = valued_as(reading, values)
    classes = list(plan.classes) if reading.classes is None else reading.classes
    most = 1.0 if reading.max_bad == Reading.max_bad else reading.max_bad
    return replace(reading, classes=classes, max_bad=most, yes_public=False)
