"""The evaluation protocol: train on synthetic, test on real, beside the rows that give it meaning.

Everything here is computed from private or held-out data and stays in the run folder, marked
PRIVATE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from ..errors import SfumatoError
from ..methods import METHODS
from ..options import Judging, Machine, Reading, gather, parse, takes
from ..records import RecordSet
from ..runs.folder import Run
from ..runs.looks import record_look, record_public
from ..runs.reading import remembered
from .beside import runs_beside
from .cosines import has_exact_mean
from .evaluation_time import Countdown, expected
from .figures import Evaluation, Figures
from .keywords import EvaluateOptions
from .machine import computes
from .pictures import require_pictures
from .real_images import Images, Real, real_images
from .row_images import CONTROLS_ALONE, EXACT, OF_REAL, ROWS, Drawing, require_kept

__all__ = ["EXACT", "ROWS", "Evaluation", "evaluate"]

FREE = ("synthetic", "public_only")
LONG = 60.0  # seconds from which on it is said how to make it quicker, and asked


@takes(reading=Reading, judging=Judging, machine=Machine)
@computes
def evaluate(
    run: Run | str | Path,
    release: str | Path,
    *,
    test: Images | None = None,
    train: Images | None = None,
    rows: Sequence[str] | None = None,
    beside: Sequence[Run | str | Path] = (),
    public_test: bool = False,
    allow_overlap: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
    confirm: Callable[[float], bool] = lambda seconds: True,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Trains every classifier on every row and tests it on real images.

    Mean and spread over seeds; model selection on held-out synthetic images only. Exact figures are
    a look: a row of the ledger, written before the first of them is computed, which every later
    certificate of a run on these images (the run's and the test's) counts, also if the evaluation
    is stopped. Writes `evaluation/utility.json` and `evaluation/page.html` into the private run
    folder, never into the release. With one class there is nothing to classify: distances only, in
    the latents of the base's autoencoder.

    Args:
        run: A finished run, or its folder.
        release: A folder of `synthesize`.
        test: Held-out real images, not part of the private set; by default the held-out part of
            the split with which the run was adapted.
        train: The private images themselves (default: those that the run remembers).
        rows: "synthetic" (the release), "public_only" (the base as it came, zero-shot),
            "non_private" (same recipe, no clipping, no noise; needs the run's cache),
            "reconstructed" (the private images through the base's autoencoder) and "real". After an
            inversion also "noise_only" and "one_image"; its exact rows need `adapt` with
            `controls`. By default the first two, and "real" where the private images are known and
            the test is not public.
        beside: Other runs on the same images and base, a row each, drawn with the same sampler and
            seeds. Each was charged to the ledger as a run of its own.
        public_test: The test images are public, so that only rows that are functions of private
            images are a look; a PUBLIC row, so that no run is charged for them later.
        allow_overlap: Accept test images that the run was trained on; the page says so.
        on_stage: Called with a line for every row that begins, and with notes ("note: ...").
        confirm: Asked with the expected seconds before a look that takes longer than a minute is
            recorded.
        options: Fields of `Reading`, `Judging` and `Machine`, or whole objects. What is not named
            of the reading is as the run's own images were read.

    Returns:
        The verdict, accuracies, distances, cosines. PRIVATE.

    Raises:
        SfumatoError: A release without pictures; rows that do not exist, or that need what is
            missing; no yes of `confirm`.
        DataError: `public_test` with an image that the ledger knows as private, or test images that
            the run was trained on.
    """
    found = gather(
        {"reading": Reading, "judging": Judging}, options, ("test", "train", "rows", "beside")
    )
    said: Reading = found["reading"]
    how: Judging = found["judging"]
    run = run if isinstance(run, Run) else Run.open(run)
    require_pictures(release)
    _require_rows(run, rows, train)
    others = runs_beside(run, beside)
    on_stage("reading the real images")
    wants = OF_REAL.intersection(rows) if rows is not None else not public_test
    real = real_images(
        [run, *others.values()],
        test,
        train,
        said,
        want_train=bool(wants),
        public_test=public_test,
        allow_overlap=allow_overlap,
    )
    if rows is None:
        rows = (*FREE, "real") if real.train is not None and not public_test else FREE
    if OF_REAL.intersection(rows) and real.train is None:
        raise SfumatoError(
            "the rows 'real' and 'reconstructed' need the private images themselves, and they are"
            " not known, or not as they were: give --train"
        )
    drawing = Drawing(run, Path(release), others, real.train, how.public_images)
    order = [*sorted(rows, key=ROWS.index), *others]
    own = 0 if real.train is None else real.train.n
    left = Countdown(expected(order, drawing, how, real.test.n, own), on_stage)
    look = not public_test or has_exact_mean(run) or bool(set(EXACT).intersection(rows))
    _announce(left, on_stage, look, real)
    if look and left.total > LONG and not confirm(left.total):
        raise SfumatoError("not evaluated: no figure was computed, and no look is recorded")
    if public_test:
        for judged in (run, *others.values()):
            record_public(judged, real.test)
    if look:
        _record(run, others, rows, real, how.with_distances, public_test)
    return Figures(drawing, real, how, left).all(order)


def _require_rows(run: Run, rows: Sequence[str] | None, train: Images | None) -> None:
    if rows is not None and not rows:
        raise SfumatoError(f"rows is empty: choose from {', '.join(ROWS)}")
    for row in rows or ():
        if row not in ROWS:
            raise SfumatoError(f"--rows {row}: choose from {', '.join(ROWS)}")
    if CONTROLS_ALONE.intersection(rows or ()).difference(METHODS[run.plan.method].control_rows):
        raise SfumatoError("--rows noise_only and one_image are controls of --method inversion")
    for row in rows or ():
        require_kept(run, row)
    asked = OF_REAL.intersection(rows or ())
    if asked and train is None and remembered(run.folder).images is None:
        raise SfumatoError(
            f"the row {min(asked)!r} needs the private images themselves: give --train"
        )


def _announce(left: Countdown, on_stage: Callable[[str], None], look: bool, real: Real) -> None:
    """Says how long it will take, and that stopping it takes no look back."""
    text = f"note: {parse.about(left.total)} from here"
    if left.total > LONG:
        text += " (quicker: --seeds 1, fewer --steps, --rows synthetic,public_only)"
    on_stage(text)
    if look:
        on_stage(
            "note: the look is recorded before the first figure, and counts in later certificates"
            " also if you stop before the end"
        )
    for remark in real.remarks:
        on_stage(f"note: {remark}")


def _record(
    run: Run,
    others: dict[str, Run],
    rows: Sequence[str],
    real: Real,
    distances: bool,
    public_test: bool,
) -> None:
    """Appends the LOOK rows of an evaluation, one for each run that is judged."""
    what = (
        ["accuracy"] * (len(run.plan.classes) > 1)
        + ["distances"] * distances
        + ["cosines"] * has_exact_mean(run)
    )
    seen: list[RecordSet] = [] if public_test else [real.test]
    if real.train is not None and OF_REAL.intersection(rows):
        seen.append(real.train)
    for other in (run, *others.values()):
        record_look(other, what, *seen, rows=[*rows, *others])
