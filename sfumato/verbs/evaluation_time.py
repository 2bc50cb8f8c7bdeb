"""How long an evaluation will take, timed on dummy data, and how much of it is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..bases import Base
from ..compute.clocks import wall_clock
from ..evaluation import train_classifier
from ..evaluation.classifiers import STEPS
from ..options import Judging, Sampling
from ..options.parse import about
from ..synthesis.sampler import Sampler
from .drawing import drawn_alike
from .row_images import OF_REAL, Drawing, public_base

IMAGES, FEW, MORE = 128, 1, 3  # dummy images, and steps that are timed
DRAWN = 8
SOURCE = "images"
SOON = 0.05  # of the whole, from which on the pace is known


@dataclass
class Countdown:
    """What is left of an evaluation.

    parts: (row, "images" or a classifier) -> expected seconds of each piece of it. tell: takes a
    line.
    """

    parts: dict[tuple[str, str], list[float]]
    tell: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    done: float = 0.0

    @property
    def total(self) -> float:
        """Expected seconds of all pieces that are left, at the pace so far."""
        left = sum(map(sum, self.parts.values()))
        spent = time.monotonic() - self.started
        known = self.done > 0 and self.done > SOON * (self.done + left)
        return left * (spent / self.done if known else 1.0)

    def begin(self, text: str) -> None:
        """A line about what begins, with the time left."""
        self.tell(f"{text}, {about(self.total)} left")

    def finish(self, row: str, piece: str) -> None:
        """One piece is done."""
        pieces = self.parts.get((row, piece))
        if pieces:
            self.done += pieces.pop()


def expected(
    rows: list[str], drawing: Drawing, how: Judging, tested: int, train: int
) -> dict[tuple[str, str], list[float]]:
    """Expected seconds of every piece of an evaluation, from a few steps on dummy data.

    Args:
        rows: Names.
        drawing: What they have in common.
        how: The classifiers.
        tested: Number of test images.
        train: Number of the run's own images, 0 if they are not used.

    Returns:
        (row, piece) -> seconds of each.
    """
    classes, side = len(drawing.run.plan.classes), drawing.resolution
    parts: dict[tuple[str, str], list[float]] = {}
    if classes > 1:
        for name in how.classifiers:
            steps = STEPS[name] if how.steps is None else how.steps
            each = _classifier(name, side, classes, steps, tested)
            parts |= {(row, name): [each] * len(how.of_seeds) for row in rows}
    number, sampling = drawing.drawn
    made = [row for row in rows if row != "synthetic" and row != "real"]
    if made:
        drawn, passed = _pictures(public_base(drawing.run), drawing.run.plan.prompts, sampling)
        for row in made:
            other = drawing.run if row == "non_private" else drawing.others.get(row)
            first = 0 if other is None else drawn_alike(other, sampling).class_moments or 0
            pictures = number + first * classes
            parts[row, SOURCE] = [train * passed if row in OF_REAL else pictures * drawn]
    return parts


def _classifier(name: str, side: int, classes: int, steps: int, tested: int) -> float:
    """Seconds of training one classifier and testing it once."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, side, side, 3), np.uint8)
    labels = np.arange(IMAGES) % classes
    ends: list[float] = []
    clock = wall_clock()
    judge = train_classifier(name, images, labels, classes, steps=FEW)
    for count in (FEW, FEW + MORE):
        started = clock()
        judge = train_classifier(name, images, labels, classes, steps=count)
        ends.append(clock() - started)
    started = clock()
    judge.predict(images)
    asked = clock() - started
    return max(0.0, ends[1] - ends[0]) / MORE * steps + asked * tested / IMAGES


def _pictures(base: Base, prompts: tuple[str, ...], sampling: Sampling) -> tuple[float, float]:
    """Seconds of drawing one image, and of passing one through the autoencoder."""
    brief = Sampling(sampling.scheduler, min(2, sampling.steps), sampling.guidance_scale)
    few = min(DRAWN, base.together)
    sampler, numbers = Sampler(base, prompts, brief), np.arange(few)
    labels = numbers % len(prompts)
    clock = wall_clock()

    def timed(step: Callable[[], object]) -> float:
        started = clock()
        step()
        return (clock() - started) / few

    sampler.draw(labels, numbers)  # the first is slower
    drawn = timed(lambda: sampler.draw(labels, numbers))
    images = np.zeros((few, base.resolution, base.resolution, 3), np.uint8)
    passed = timed(lambda: base.decode(base.encode(images)[0]))
    return drawn * sampling.steps / brief.steps, passed
