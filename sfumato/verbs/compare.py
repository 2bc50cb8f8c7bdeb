"""`compare`: runs beside each other on one page, by what is theirs alone and costs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from markupsafe import Markup

from .. import pages
from ..bases import base_info
from ..errors import SfumatoError
from ..evaluation import train_classifier
from ..options import Machine, Reading, Sampling, takes
from ..privacy.ledger.entries import Attempt
from ..privacy.ledger.notes import Shown
from ..runs.folder import Run
from ..runs.looks import record_look, record_public
from ..runs.samples import FOLDER
from .drawing import draw_as_released
from .inspect import require_private_place, write_private
from .keywords import MachineOptions
from .machine import computes
from .real_images import Images, images_of, real_images

NUMBER, SHOWN, STEPS = 500, 3, 300  # pictures of a score, of a class on the page, and batches
FEWEST = 50  # pictures, below which a share of right answers says nothing
SAID = (
    "Classifiers learn from four fifths of the pictures that a run draws, and name the classes of"
    " the others. No real image is asked: a high share says that a run draws its classes apart, not"
    " that they look like the private ones."
)
ON_PUBLIC = (
    "On public images: classifiers learn from all pictures of a run and name the classes of images"
    " that you say are public."
)
PRIVATE = (
    "The private figures are those of each run's last `evaluate`. No epsilon covers them: showing"
    " them here is a look, and later certificates count it."
)


@dataclass(frozen=True)
class Compared:
    """One run of the page. PRIVATE: it shows a run folder.

    Attributes:
        name: Of its folder.
        run: The run.
        pictures: uint8 [n, R, R, 3] of a finished run; none of any other.
        labels: int64 [n], their classes.
        score: Share of its own pictures whose class is told, 0 to 1; None where it was not asked
            for, where there is one class, or no model yet.
        on_public: Share of the public images whose class is told by a classifier that learned from
            its pictures; None without such images.
        private: The last evaluation's accuracy of its pictures on real ones; None unless asked for.
    """

    name: str
    run: Run
    pictures: np.ndarray
    labels: np.ndarray
    score: float | None
    on_public: float | None
    private: float | None

    @property
    def rank(self) -> tuple[float, float, str]:
        """Smallest first: by the public images, else by its own pictures; then by epsilon."""
        told = self.score if self.on_public is None else self.on_public
        return -(told or 0.0), self.run.plan.epsilon, self.name


@takes(machine=Machine)
@computes
def compare(
    runs: Sequence[Run | str | Path],
    output: str | Path,
    *,
    number: int = NUMBER,
    score: bool = True,
    public_test: Images | None = None,
    private: bool = False,
    ledger: str | Path | None = None,
    on_stage: Callable[[str], None] = lambda line: None,
    **options: Unpack[MachineOptions],
) -> list[Compared]:
    """Write one static page of plans and pictures, best first.

    What it shows is a function of public plans, public images and noised results, so it costs
    nothing; only `private` adds exact figures. The ledger notes that pictures of each finished run
    were seen: what is charged after that is composed as planned by whoever has seen them.

    Args:
        runs: Two runs or more, or their folders; some may go on.
        output: A new HTML file, which its owner alone can read.
        number: Pictures that each finished run draws, with a public seed.
        score: Train a classifier on them, for the order.
        public_test: Public images of the same classes: the order is then that of how well
            classifiers that learn from a run's pictures name them. They are a PUBLIC row of each
            run's ledger, and no run is charged for them later.
        private: Also the figures of each run's last evaluation: a look at each.
        ledger: The owner's ledger, if it was moved.
        on_stage: Called with a line for every stage that begins.
        options: Fields of `Machine`, or one as `machine`.

    Returns:
        The runs in the order of the page.

    Raises:
        SfumatoError: Fewer than two runs, one of them twice, a file that exists or would lie in a
            release, too few pictures, private figures that were never made, or public images for
            runs of other classes.
        DataError: The ledger knows one of the public images as private.
        MachineError: The file cannot be written.
    """
    place = Path(output)
    require_private_place(place)
    if number < FEWEST:
        raise SfumatoError(f"--number {number}: at least {FEWEST}, or a share says nothing")
    opened = [run if isinstance(run, Run) else Run.open(run, ledger) for run in runs]
    if len(opened) < 2 or len({run.id for run in opened}) < len(opened):
        raise SfumatoError("name at least two different runs: sfumato compare run-1 run-2")
    judge = _judge(opened, public_test, on_stage)
    figures: list[float | None] = [None] * len(opened)
    if private:
        figures = [_evaluated(run) for run in opened]
        for run in opened:  # durably, before one of them is shown
            record_look(run, ("accuracy",), rows=("synthetic",))
    names = _names(opened)
    drawn = [_of(*one, number, score, on_stage) for one in zip(opened, names, figures)]
    found = sorted(map(judge, drawn), key=lambda one: one.rank)
    write_private(place, _page(found, score, public_test is not None, private).encode())
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """Of their folders; with that above where two have the same."""
    own = [run.folder.absolute().name for run in runs]
    if len(set(own)) == len(own):
        return own
    return [str(Path(*run.folder.absolute().parts[-2:])) for run in runs]


def _judge(
    runs: Sequence[Run], test: Images | None, on_stage: Callable[[str], None]
) -> Callable[[Compared], Compared]:
    """What gives a run its figure on public images; durably noted as such before there is one."""
    if test is None:
        return lambda one: one
    classes = runs[0].plan.classes
    if any(run.plan.classes != classes for run in runs):
        raise SfumatoError("--public-test: the runs have other classes: compare runs of the same")
    if len(classes) < 2:
        raise SfumatoError("--public-test: the runs have one class, and nothing is told apart")
    on_stage("reading the public images")
    found = real_images(runs, test, None, Reading(), want_train=False, public_test=True).test
    for run in runs:
        record_public(run, found)

    def judged(one: Compared) -> Compared:
        if not len(one.pictures):
            return one
        on_stage(f"judging {one.name} on the public images")
        told = train_classifier("cnn", one.pictures, one.labels, len(classes), steps=STEPS)
        side = base_info(one.run.plan.base).resolution
        return replace(one, on_public=told.accuracy(*images_of(found, classes, side, "test")))

    return judged


def _evaluated(run: Run) -> float:
    """The accuracy of the run's last evaluation; SfumatoError without one."""
    try:
        body = json.loads((run.folder / "evaluation" / "utility.json").read_text("utf-8"))
        return float(max(row["mean"] for row in body["utility"]["synthetic"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise SfumatoError(
            f"{run.folder.name} has no accuracy on real images: `sfumato evaluate` it first, or"
            " leave --private out"
        ) from None


def _of(
    run: Run,
    name: str,
    figure: float | None,
    number: int,
    wanted: bool,
    on_stage: Callable[[str], None],
) -> Compared:
    classes = len(run.plan.classes)
    if not (run.folder / "model").is_dir():
        nothing = np.zeros((0, 0, 0, 3), np.uint8)
        return Compared(name, run, nothing, np.zeros(0, np.int64), None, None, figure)
    # Durably, before one of them is shown: a run that is planned after it may depend on it.
    attempts = len(run.ledger.entries(Attempt))
    run.record(Shown(shown=run.plan.steps, attempt=attempts - 1))
    on_stage(f"drawing with {name}")
    pictures, labels = draw_as_released(run, number, Sampling())
    told: float | None = None
    if wanted and classes > 1:
        on_stage(f"telling the classes of {name} apart")
        # classes take turns in the order of drawing: every fifth of each is kept for the test
        test = np.arange(number) // classes % 5 == 4
        judge = train_classifier("cnn", pictures[~test], labels[~test], classes, steps=STEPS)
        told = judge.accuracy(pictures[test], labels[test]) if test.any() else None
    return Compared(name, run, pictures, labels, told, None, figure)


def _page(found: Sequence[Compared], score: bool, public: bool, private: bool) -> str:
    heads = ["run", "method", "base", "epsilon", "noise", "steps", "trained numbers"]
    heads += ["classes told apart"] * score + ["on public images"] * public
    heads += ["on real images (PRIVATE)"] * private
    rows = Markup().join(_row([Markup("<th>{}</th>").format(head) for head in heads]))
    for one in found:
        rows += Markup().join(_row(_cells(one, score, public, private)))
    said = Markup("<p>{}</p>\n").format(SAID) if score else Markup()
    if public:
        said += Markup("<p>{}</p>\n").format(ON_PUBLIC)
    if private:
        said += Markup('<p class="private"><b>PRIVATE.</b> {}</p>\n').format(PRIVATE)
    parts = Markup().join(map(_pictures, found))
    body = Markup(
        '<h1>{} runs beside each other</h1>\n<p class="private"><b>PRIVATE.</b> It shows run'
        " folders: keep this page on this machine.</p>\n{}"
        '<div class="scroll" tabindex="0"><table>\n{}</table></div>\n<p>{}</p>\n{}'
    ).format(len(found), said, rows, pages.ENLARGE, parts)
    return pages.page("Runs beside each other", body)


def _row(cells: Sequence[Markup]) -> list[Markup]:
    return [Markup("<tr>"), *cells, Markup("</tr>\n")]


def _cells(one: Compared, score: bool, public: bool, private: bool) -> list[Markup]:
    plan = one.run.plan
    texts = [one.name, plan.method, Path(plan.base).name, f"{plan.epsilon:.3g}"]
    texts += [f"{plan.noise_multiplier:.3g}", f"{plan.steps:,}", f"{plan.trainable:,}"]
    texts += [_percent(one.score)] * score + [_percent(one.on_public)] * public
    texts += [_percent(one.private)] * private
    return [Markup("<td>{}</td>").format(text) for text in texts]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _pictures(one: Compared) -> Markup:
    """Some pictures of each class; of a run that goes on, its newest sheet of samples."""
    head = Markup("<h2>{}</h2>\n").format(one.name)
    classes = one.run.plan.classes
    if not len(one.pictures):
        sheets = sorted((one.run.folder / FOLDER).glob("step-*.png"))
        if not sheets:
            return head + Markup("<p>No model and no sample yet.</p>\n")
        return head + pages.grid(
            [pages.Picture(sheets[-1].read_bytes(), f"samples of {one.name}, {sheets[-1].stem}")]
        )
    shown = [
        pages.Picture(one.pictures[at], f"{one.name}: {classes[label]}")
        for label in range(len(classes))
        for at in np.flatnonzero(one.labels == label)[:SHOWN]
    ]
    return head + pages.grid(shown)
