"""`inspect`: what is in a folder, for the owner's eyes."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from ..errors import DataError, MachineError, SfumatoError
from ..options import Reading, gather, takes
from ..options.progress import listening
from ..planning.facts import LINK, PublicFacts, require_clear_units, require_list
from ..planning.names import what_would_leak
from ..planning.reading import Source, flat_as_one_class
from ..records import (
    Diagnosis,
    RecordSet,
    as_csv,
    diagnose,
    load_known,
    load_records,
    near_copies,
    pairs_sheet,
    require_read_as_today,
)
from ..records import sheet as drawn_sheet
from ..records.sheet import free_name
from .keywords import ReadingFields

SIDE = 64  # pixels of a sheet without a base
RELEASED = ("privacy.json", "synthesis.json", "SHA256SUMS")


@takes(reading=Reading)
def inspect(
    images: Source,
    *,
    base: str | Path | None = None,
    sheet: str | Path | None = None,
    bad_files: str | Path | None = None,
    public_data: Source | None = None,
    near: bool = True,
    near_list: str | Path | None = None,
    near_sheet: str | Path | None = None,
    on_stage: Callable[[str], None] = lambda line: None,
    reading: Reading | None = None,
    **options: Unpack[ReadingFields],
) -> Diagnosis:
    """What is in a folder of private images, how it was read, and what to do next.

    It diagnoses and never refuses a folder: where `adapt` would, the diagnosis says why.

    Args:
        images: Class folders, a flat folder, a folder with metadata.csv or .jsonl, COCO, parquet,
            arrow, tar, zip, idx or npz.
        base: A base, whose pixels the sheets take, and whose training pictures are compared if
            its folder has a list of them.
        sheet: A new PNG file for pictures as the model will see them. PRIVATE.
        bad_files: A new CSV file (rule, file) for the records that break a rule. PRIVATE.
        public_data: Images that are meant as `public_data` of `adapt`: they are compared.
        near: Look for near-copies. The time grows with the square of the pictures.
        near_list: A new CSV file for the pairs of near-copies. PRIVATE.
        near_sheet: A new PNG file that shows them side by side. PRIVATE.
        on_stage: Called with a line for how far it is, of sets that take a while.
        reading: The options below as one object.
        options: Fields of `Reading`.

    Returns:
        The diagnosis. Everything in it is private: keep it on this machine.

    Raises:
        SfumatoError: No such place, options that there are not, or a file that is not to be
            written there.
        MachineError: No permission to read it.
    """
    said = {"reading": reading} if reading is not None else {}
    asked: Reading = gather({"reading": Reading}, said | options)["reading"]
    place = Path(images.source if isinstance(images, RecordSet) else images)
    for file in (sheet, bad_files, near_list, near_sheet):
        if file is not None:
            require_private_place(Path(file), place)
    for flag, file in (("--sheet", sheet), ("--near-sheet", near_sheet)):
        if file is not None and Path(file).suffix.lower() != ".png":
            raise SfumatoError(f"{flag} {file} is a PNG picture: end its name in .png")
    if not near and (public_data, near_list, near_sheet) != (None, None, None):
        raise SfumatoError(
            "--no-near looks for no near-copies: leave out --public-data, --near-list and"
            " --near-sheet, or --no-near"
        )
    side = SIDE if base is None else _side_of(str(base))
    asked = flat_as_one_class(images, asked)
    with listening(on_stage):
        records, refusals = _look(images, asked)
    found = diagnose(
        place,
        records,
        asked,
        refusals,
        base=None if base is None else str(base),
        side=0 if base is None else side,
        stops=() if records is None else _stops(records),
    )
    found = replace(found, warnings=(*found.warnings, *_of_names(records)))
    if near and records is not None and records.usable.any():
        with listening(on_stage):
            public = None if public_data is None else _compared(public_data, records)
        known = None if base is None else _known(str(base))
        with listening(on_stage):
            found = replace(found, near=near_copies(records, public, known))
        write_near(found, records, public, side, near_list, near_sheet)
    if bad_files is not None:
        write_bad_files(found, Path(bad_files))
    if sheet is not None and records is not None and records.usable.any():
        stream = io.BytesIO()
        drawn_sheet(records, side).save(stream, "PNG")
        write_private(Path(sheet), stream.getvalue())
    return found


def _stops(records: RecordSet) -> list[str]:
    """Why `plan` and `adapt` would stop at the class list, the units or how records were read."""
    facts = PublicFacts.of(records)
    found: list[str] = []
    for require in (
        partial(require_read_as_today, records),
        partial(require_list, facts),
        partial(require_clear_units, facts, allowed=False),
    ):
        try:
            require()
        except SfumatoError as error:
            found.append(str(error))
    return found


def _of_names(records: RecordSet | None) -> list[str]:
    """What `plan` and `adapt` will say of class names that were read off the data."""
    if records is None or not records.classes_found or records.confirmed:
        return []
    leaks = what_would_leak((*records.classes, *records.few), records.n_units)
    cure = (
        "declare the public classes with --classes; where each folder is one person, take"
        " --unlabelled --unit folder"
    )
    return [f"`plan` and `adapt` will stop: {LINK.join(leaks)}: {cure}"] if leaks else []


def _compared(public: Source, records: RecordSet) -> RecordSet:
    """Images that are meant as public, whatever they are called, in the private ones' values."""
    if isinstance(public, RecordSet):
        return public
    if not Path(public).exists():
        raise DataError(f"--public-data {public}: no such folder or file")
    reading = Reading(**records.values.as_options(), unlabelled=True, max_bad=1.0)
    found = load_records(public, **reading.keywords(), refusals=[])
    if not found.usable.any():
        raise DataError(f"--public-data {public}: no image in it can be used")
    return found


def _known(base: str) -> np.ndarray | None:
    from ..bases import resolve_base  # here: as below

    return load_known(resolve_base(base))


def write_near(
    found: Diagnosis,
    records: RecordSet,
    public: RecordSet | None,
    side: int,
    pairs_list: str | Path | None,
    pairs_picture: str | Path | None,
) -> None:
    """The private list and the private picture of near-copies, each where it is asked for."""
    assert found.near is not None
    pairs = found.near.pairs
    if pairs_list is not None:
        write_private(Path(pairs_list), as_csv(pairs))
    if pairs_picture is not None and pairs:
        stream = io.BytesIO()
        pairs_sheet(records, public, pairs, side).save(stream, "PNG")
        write_private(Path(pairs_picture), stream.getvalue())


def _side_of(base: str) -> int:
    from ..bases import base_info  # here: looking at a folder need not wait for torch

    return base_info(base).resolution


def _look(images: Source, asked: Reading) -> tuple[RecordSet | None, list[str]]:
    """The records, whatever state they are in, and why `adapt` would refuse them."""
    if isinstance(images, RecordSet):
        return images, []
    refusals: list[str] = []
    try:
        return load_records(images, **asked.keywords(), refusals=refusals), refusals
    except MachineError:
        raise
    except SfumatoError as error:
        if not isinstance(error, DataError) or not Path(images).exists():
            raise
        return None, [str(error), *refusals]


def write_bad_files(found: Diagnosis, file: Path) -> None:
    """The private list of records that break a rule: CSV with the columns rule and file."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(("rule", "file"))
    lines.writerows(found.bad_files)
    write_private(file, stream.getvalue().encode("utf-8", "surrogateescape"))


def write_private(file: Path, data: bytes) -> None:
    """A new file for its owner alone; SfumatoError if it exists."""
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
    except FileExistsError:
        raise SfumatoError(
            f"{file} exists: name a new file, such as {free_name(file).name}"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot write {file}: {error.strerror}") from error


def require_private_place(file: Path, images: Path | None = None) -> None:
    """Checks, before any work for it, the place of a file with private content.

    Raises:
        SfumatoError: A file that exists, that no folder is there for, or that would lie among the
            images or in a release.
    """
    if file.exists():
        raise SfumatoError(f"{file} exists: name a new file, such as {free_name(file).name}")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise SfumatoError(f"{file}: there is no folder {folder}: make it, or name another place")
    inside = images.resolve() if images is not None else None
    if inside is not None and inside.is_dir() and folder.is_relative_to(inside):
        raise SfumatoError(f"{file} would lie among the private images: name a place outside")
    if any((up / name).exists() for up in (folder, *folder.parents) for name in RELEASED):
        raise SfumatoError(
            f"{file} would lie in a release, and it shows private data: name another place"
        )


def keep_bad_files(found: Diagnosis) -> Path:
    """The private list beside the owner's ledger, in place of the one before; its path."""
    from ..runs import budget  # here, as above

    folder = budget.default_path().parent / "inspect"
    name = hashlib.sha256(str(Path(found.source).resolve()).encode()).hexdigest()[:12]
    file = folder / f"bad-files-{name}.PRIVATE.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write {file}: {error.strerror}") from error
    write_bad_files(found, file)
    return file
