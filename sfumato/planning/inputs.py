"""What a caller hands over: which of it is about reading, which about preparing, and public images
on their way into a plan.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..compute import ranks
from ..errors import DataError, SfumatoError
from ..methods import TOKEN_METHODS
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.public import PublicInput, copies
from ..privacy.plan import Plan
from ..records import RecordSet, is_flat, load_records
from ..runs import budget
from ..runs.inversion import Work, with_public_style
from ..runs.prepared import Prepared
from ..runs.probe import with_public
from .facts import PublicFacts
from .prepare import CAPTIONS_SAID, DOUBTFUL_SAID, prepare
from .provenance import trace_base, trace_images

Source = str | Path | RecordSet
T = TypeVar("T")


def on_terms(preparing: dict, known: budget.Standing) -> dict:
    """Options with the delta that these images were charged at before, if none is asked for: only
    equal ones add up.
    """
    if preparing.get("delta") is None and known.terms is not None:
        return preparing | {"delta": known.terms["delta"]}
    return preparing


READING = ("labels", "caption_column", "unit", "classes", "max_bad", "unlabelled", "yes_public")


# What public images decided, or the probe: it is handed over inside, and a caller who could name it
# would start a run from exact figures of private images that nobody pays for.
INTERNAL = ("start", "scores")
INTERNAL_OF_METHODS = ("start", "selected")
ASKED = (*READING, "public_data", "allow_caption_prompts")


def split(options: dict) -> tuple[dict, dict]:
    """Options of `plan` and `adapt` as (reading, preparing). SfumatoError for one that there is
    not, or that is handed over inside only.
    """
    known = {*ASKED, *inspect.signature(prepare).parameters} - {"facts", "epsilon", *INTERNAL}
    for name in options:
        if name not in known:
            like = difflib.get_close_matches(name, known, 1)
            raise SfumatoError(
                f"there is no option {name!r} here"
                + (f": did you mean {like[0]!r}?" if like else "")
            )
    if inside := sorted(set(options.get("method_options") or ()).intersection(INTERNAL_OF_METHODS)):
        raise SfumatoError(
            f"method_options takes no {inside[0]!r}: give public_data, and what it says decides"
        )
    reading = {k: options[k] for k in READING if options.get(k) is not None}
    return reading, {k: v for k, v in options.items() if k not in READING}


def prepare_as_asked(
    records: RecordSet, epsilon: float, preparing: dict, ledger: str | Path | None = None
) -> Prepared:
    """`prepare` with everything that is taken as public looked at first: images, base and words.

    `ledger`: the owner's, whose private images, weights and captions no public input may be; None
    where there is none yet. Raises SfumatoError (exit code 10 for images, 11 for a base, 12 for
    private images that were public before).
    """
    said = {k: v for k, v in preparing.items() if k not in ASKED}
    public, base = preparing.get("public_data"), said.get("base", "glyphs")
    ancestors = _on_book(ledger, lambda book: _of_base(book, base, records))
    inputs: list[PublicInput] = []
    if public is not None:
        inverts = said.get("method") == "inversion"
        place = Path(public.source if isinstance(public, RecordSet) else public)
        ancestors += _on_book(ledger, lambda book: trace_images(place, book, DataError))
        reading = unlabelled_if_flat(public, {}, said) if inverts else {}
        public = records_of(public, {"yes_public": True} | reading)
        _require_apart(public, records)
        _on_book(ledger, lambda book: _require_uncharged(public, book))
        inputs.append(_images(public, inverts, said))
        said = (
            with_public_style(said, public, records.classes)
            if inverts
            else with_public(said, public)
        )
    prepared = prepare(PublicFacts.of(records), epsilon=epsilon, **said)
    allowed = bool(preparing.get("allow_caption_prompts"))
    options = _with_captions(prepared.options, records, allowed, ledger)
    return replace(prepared, options=options, public_inputs=tuple(inputs), ancestors=ancestors)


def _on_book(place: str | Path | None, ask: Callable[[Ledger | None], T]) -> T:
    """What `ask` finds in the ledger, or without one; on the first rank, where the ledger lies."""
    return ranks.on_first_rank(lambda: ask(None if place is None else budget.open_ledger(place)))


def _of_base(book: Ledger | None, base: str, records: RecordSet) -> tuple[dict, ...]:
    if book is not None:
        try:
            book.require_untaken(book.identify(records.fingerprints, **records.marks))
        except ValueError as error:
            raise budget.in_words(error) from error
    return trace_base(base, book)


def _require_apart(public: RecordSet, records: RecordSet) -> None:
    """SfumatoError where a private image is among the public ones: what these say is released as it
    is, and nobody pays for it.
    """
    both = len({p for p in public.fingerprints if p}.intersection(records.fingerprints))
    if both:
        raise SfumatoError(
            f"{both} images of --public-data are among the private ones, and nothing would protect"
            " them: an image is one or the other"
        )


def _require_uncharged(public: RecordSet, book: Ledger | None) -> None:
    images = None if book is None else book.identify(public.fingerprints, public.marks["files"])
    both = 0 if images is None else book.public.charged(images)
    if both:
        raise DataError(
            f"{both} images of --public-data were charged as private in this ledger, and what a run"
            " learns of them here would leave unprotected: take them out"
        )


def _images(public: RecordSet, inverts: bool, said: dict) -> PublicInput:
    options = said.get("method_options") or {}
    decided = ["the anchor, the axes and the radius of the inversion"] * inverts
    decided += ["which matrices train"] * (options.get("choose") == "public")
    decided += ["where the adapters start"] * (options.get("adapter_init") == "public")
    return PublicInput(" and ".join(decided), public.fingerprints, public.marks["files"])


def _with_captions(
    options: dict, records: RecordSet, allowed: bool, ledger: str | Path | None
) -> dict:
    """A plan's options, with an opt-in where words that are published stand as captions of these
    records, or of images that the ledger has charged. SfumatoError where that is not `allowed`.
    """
    words = options["prompts"]
    texts = [*words["prompts"], *(text for text in words["initializers"] if text)]
    texts.append(options["statements"]["tuning"] or "")

    def charged(book: Ledger | None) -> int:
        return 0 if book is None else book.public.captions(texts, records.classes)

    own = copies(texts, records.captions or (), records.classes)
    _require_own_words(own, "in the private table", allowed)
    before = _on_book(ledger, charged)
    _require_own_words(before, "of images that were charged before", allowed)
    if not own and not before:
        return options
    statements = options["statements"]
    opt_ins = list(statements["opt_ins"])
    last = [] if before else [text for text in opt_ins if text == DOUBTFUL_SAID]
    opt_ins = [text for text in opt_ins if text not in last] + [CAPTIONS_SAID] + last
    return options | {"statements": statements | {"opt_ins": opt_ins}}


def _require_own_words(copied: int, where: str, allowed: bool) -> None:
    if copied and not allowed:
        raise SfumatoError(
            f"{copied} of the prompts or --init texts stand as captions {where}, or hold one, and"
            " they are published: word them anew, or allow it by name (--allow-caption-prompts,"
            " recorded)"
        )


def require_inversion(inverts: bool, work: Work) -> None:
    if (work.shard is not None or work.keep or work.controls) and not inverts:
        raise SfumatoError(
            "--shard, --keep-inversions and --controls of adapt go with --method inversion"
        )


def unlabelled_if_flat(path: Source, reading: dict, preparing: Mapping) -> dict:
    """A token method takes a plain folder of images as one class: nobody sorts 50 drawings into
    folders.
    """
    if (
        preparing.get("method") not in TOKEN_METHODS
        or isinstance(path, RecordSet)
        or "labels" in reading
    ):
        return reading
    return {"unlabelled": True} | reading if is_flat(Path(path)) else reading


def as_planned(reading: dict, plan: Plan) -> dict:
    """How a run's own images are read again: with the plan's class list, however that was found.
    Whether they are the same is for the run's digest to say.
    """
    return {"classes": list(plan.classes), "max_bad": 1.0} | {
        k: v for k, v in reading.items() if k != "yes_public"
    }


def records_of(path: Source, reading: dict) -> RecordSet:
    return path if isinstance(path, RecordSet) else load_records(path, **reading)
