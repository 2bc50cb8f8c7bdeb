"""What a caller hands over: which of it is about reading, which about preparing, and public images on their way into a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import budget
from .errors import SfumatoError
from .inverting import Work, with_public_style
from .methods import TOKEN_METHODS
from .prepare import Prepared, prepare
from .privacy.plan import Plan
from .probing import with_public
from .records import RecordSet, is_flat, load_records

Source = str | Path | RecordSet


def on_terms(preparing: dict, known: budget.Standing) -> dict:
    """Options with the delta that these images were charged at before, if none is asked for: only equal ones add up."""
    if preparing.get("delta") is None and known.terms is not None:
        return preparing | {"delta": known.terms["delta"]}
    return preparing


READING = ("labels", "caption_column", "unit", "classes", "max_bad", "unlabelled", "yes_public")


def split(options: dict) -> tuple[dict, dict]:
    reading = {k: options[k] for k in READING if options.get(k) is not None}
    return reading, {k: v for k, v in options.items() if k not in READING}


def prepare_as_asked(records: RecordSet, epsilon: float, preparing: dict) -> Prepared:
    public = preparing.get("public_data")
    said = {k: v for k, v in preparing.items() if k != "public_data"}
    if public is not None:
        inverts = said.get("method") == "inversion"
        reading = unlabelled_if_flat(public, {}, said) if inverts else {}
        public = records_of(public, {"yes_public": True} | reading)
        _require_apart(public, records)
        said = with_public_style(said, public, records.classes) if inverts else with_public(said, public)
    return prepare(records, epsilon=epsilon, **said)


def _require_apart(public: RecordSet, records: RecordSet) -> None:
    """SfumatoError where a private image is among the public ones: what these say is released as it is, and nobody pays for it."""
    both = len({p for p in public.fingerprints if p}.intersection(records.fingerprints))
    if both:
        raise SfumatoError(
            f"{both} images of --public-data are among the private ones, and nothing would protect them: an image is one or the other"
        )


def require_inversion(inverts: bool, work: Work) -> None:
    if (work.shard is not None or work.keep or work.controls) and not inverts:
        raise SfumatoError("--shard, --keep-inversions and --controls of adapt go with --method inversion")


def unlabelled_if_flat(path: Source, reading: dict, preparing: Mapping) -> dict:
    """A token method takes a plain folder of images as one class: nobody sorts 50 drawings into folders."""
    if preparing.get("method") not in TOKEN_METHODS or isinstance(path, RecordSet) or "labels" in reading:
        return reading
    return {"unlabelled": True} | reading if is_flat(Path(path)) else reading


def as_planned(reading: dict, plan: Plan) -> dict:
    """How a run's own images are read again: with the plan's class list, however that was found. Whether they are the same is for
    the run's digest to say."""
    return {"classes": list(plan.classes), "max_bad": 1.0} | {k: v for k, v in reading.items() if k != "yes_public"}


def records_of(path: Source, reading: dict) -> RecordSet:
    return path if isinstance(path, RecordSet) else load_records(path, **reading)
