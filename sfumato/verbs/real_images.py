"""Real images for an evaluation, read as the run read its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, SfumatoError
from ..options import Reading, Values
from ..planning.reading import valued_as
from ..records import RecordSet, is_flat, load_records
from ..runs.folder import Run
from ..runs.overlap import CURE, require_apart, trained_on
from ..runs.reading import Remembered, remembered

Images = str | Path | RecordSet
LEAVE = ", or accept it with --allow-overlap"
OWN_PART = "leave --test out, and the held-out part of the run's split is taken"
MOST_BYTES = 1 << 30  # of pixels that one row of real images is trained on


@dataclass(frozen=True)
class Real:
    """Real images for a run's evaluation. PRIVATE.

    Attributes:
        test: Those that are tested on.
        train: The run's own; None where they are not known.
        overlap: Test images that were trained on, or share a unit with such, by the owner's leave.
        left_out: Held-out images that are copies of training images, and so not in `test`.
        without_units: The run's unit column, if the test images have none.
    """

    test: RecordSet
    train: RecordSet | None
    overlap: int = 0
    left_out: int = 0
    without_units: str | None = None

    @property
    def test_units(self) -> int:
        """Units among the usable test images."""
        return len(np.unique(self.test.unit[self.test.usable & (self.test.labels >= 0)]))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What makes the figures other than they should be, one line each."""
        said: list[str] = []
        if self.overlap:
            said.append(
                f"the run was trained on {self.overlap:,} of the test images, or on others of their"
                " units (--allow-overlap): the figures are too good"
            )
        if self.left_out:
            said.append(f"left out as copies of training images: {self.left_out:,} held-out images")
        if self.without_units:
            said.append(
                f"the test images have no column {self.without_units!r}: only pictures could be"
                " compared with the training images, and each counts as a unit of its own"
            )
        return tuple(said)


def real_images(
    runs: Sequence[Run],
    test: Images | None,
    train: Images | None,
    said: Reading,
    *,
    want_train: bool,
    public_test: bool = False,
    allow_overlap: bool | None = False,
) -> Real:
    """The images of an evaluation.

    Args:
        runs: The run, and those beside it.
        test: Held-out images; None for the held-out part of the run's split.
        train: The run's own images; None for those that it remembers.
        said: Options of reading that were given; the others are as the run remembers them.
        want_train: Whether the run's own images are needed.
        public_test: The test images are public.
        allow_overlap: The run may have been trained on test images; None: no, and the verb has no
            option that says so.

    Returns:
        The images.

    Raises:
        SfumatoError: No test images, or options that do not fit them.
        DataError: The run was trained on test images, or on their units.
    """
    run, known = runs[0], remembered(runs[0].folder)
    if said.classes is not None and tuple(said.classes) != tuple(run.plan.classes):
        raise SfumatoError("--classes differs from the run's own list: leave it out")
    held_out = test is None or said.split is not None
    if held_out and public_test:
        raise SfumatoError(
            "--public-test: what a split sets apart is as private as the rest, and its figures are"
            " a look: name public images with --test, or leave --public-test out"
        )
    found = _test_records(run, test, said, known)
    left_out = overlap = 0
    if held_out:
        pictures, units = trained_on(runs, found)
        copies = pictures & ~units
        left_out = int(copies.sum())
        found = replace(found, usable=found.usable & ~copies)
    if not public_test:
        cure = CURE if held_out or known.reading.split is None else OWN_PART
        cure += LEAVE * (allow_overlap is not None)
        overlap = require_apart(runs, found, bool(allow_overlap), cure)
    own = None
    if train is not None or (want_train and known.images is not None):
        own = _train_records(run, train, said, known)
    unit = run.plan.unit if run.plan.unit != "record" and found.unit_column is None else None
    return Real(found, own, overlap, left_out, unit)


def _test_records(run: Run, test: Images | None, said: Reading, known: Remembered) -> RecordSet:
    how = _as_the_run(run, said, known)
    if test is None:
        if how.split is None:
            raise SfumatoError(
                "--test is required: the run has no held-out part (`sfumato split` before `adapt`"
                " makes one), so name real images that it was not trained on"
            )
        test = _remembered_place(known, "--test")
    elif said.split is None:
        # other images than those that the run's split is of
        read_as = replace(known.reading, split=None)
        if not isinstance(test, (str, Path)) or Path(test).absolute() != known.images:
            read_as = replace(read_as, layout=None, objects=None)  # kept in a way of their own
        how = _as_the_run(run, said, replace(known, reading=read_as))
    return _read(test, run.plan.classes, "test", how, said)


def _train_records(
    run: Run, train: Images | None, said: Reading, known: Remembered
) -> RecordSet | None:
    """The run's own images; None if nobody named them and they are not there as they were."""
    how = _as_the_run(run, said, known)
    if train is not None:
        return _read(train, run.plan.classes, "train", how, said)
    try:
        found = _read(_remembered_place(known, "--train"), run.plan.classes, "train", how, said)
    except SfumatoError:
        return None
    pictures, _ = trained_on([run], found)
    return found if bool((pictures | ~found.usable).all()) else None


def _as_the_run(run: Run, said: Reading, known: Remembered) -> Reading:
    """What was said; the rest as the run's own images were read."""
    values = Values.kept(run.options)
    valued_as(said, values)  # or it says other values than the run's
    fields = values.as_options()
    how = {name: value for name, value in said.given().items() if name not in fields}
    how = replace(known.reading, **how, **fields)
    if how.unit is None and how.split is None and run.plan.unit != "record":
        return replace(how, unit=run.plan.unit)
    return how


def _remembered_place(known: Remembered, flag: str) -> Path:
    if known.images is None or not known.images.exists():
        raise SfumatoError(
            f"the run's own images are not where `adapt` read them: name them with {flag}"
            + " and --split" * (flag == "--test")
        )
    return known.images


def records_of(
    source: Images, classes: Sequence[str], part: str, how: Reading | None = None
) -> RecordSet:
    """The records of a folder, with a run's classes; a RecordSet as it is."""
    if isinstance(source, RecordSet):
        return source
    how = how or Reading()
    alone = len(classes) == 1 and how.labels is None and is_flat(Path(source))
    options = replace(how, classes=list(classes), yes_public=False).keywords()
    options["unlabelled"] = how.unlabelled or alone
    return load_records(source, part=part, **options)


def _read(
    source: Images, classes: Sequence[str], part: str, how: Reading, said: Reading
) -> RecordSet:
    """As the run's own images were read; without columns that only those have."""
    try:
        return records_of(source, classes, part, how)
    except SfumatoError as error:
        columns = {name: getattr(said, name) for name in ("labels", "caption_column", "unit")}
        plain = replace(how, unlabelled=said.unlabelled, **columns)
        if isinstance(error, DataError) or plain == how:
            raise
        try:
            return records_of(source, classes, part, plain)
        except SfumatoError:
            raise error from None


def images_of(
    source: Images, classes: Sequence[str], resolution: int, part: str, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a folder or RecordSet.

    Args:
        source: The folder or RecordSet.
        classes: The run's classes; labels are positions in it.
        resolution: In pixels.
        part: Which part of the source.
        most: At most so many images, drawn by a public seed.

    Returns:
        uint8 [n, h, w, 3] and int64 [n].

    Raises:
        SfumatoError: A class unknown to the run.
        DataError: Images changed or vanished while they were read, or there are none.
    """
    records = records_of(source, classes, part)
    index = {name: i for i, name in enumerate(classes)}
    for name in records.classes:
        if name not in index:
            raise SfumatoError(f"{records.source} has a class {name!r} that the run does not know")
    own = np.array([index[name] for name in records.classes])
    use = np.flatnonzero(records.usable & (records.labels >= 0))
    if not len(use):
        raise DataError("no usable image is left to evaluate with: give more, or other ones")
    if most is not None and len(use) > most:
        use = np.sort(np.random.default_rng(0).permutation(use)[:most])
    images, good = records.load(use, resolution)
    if not good.all():
        raise DataError(
            f"{int((~good).sum())} images changed or vanished while they were read: start again"
        )
    return images, own[records.labels[use]]


def most_at(resolution: int) -> int:
    """How many real images of a size a row is trained on at most, so that they fit into memory."""
    return max(1000, MOST_BYTES // (3 * resolution**2))
