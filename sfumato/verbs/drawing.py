"""How a run's pictures are drawn: by its weights, moved to its class moments, or its population."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..bases import Base, base_info, load_population, pipeline_class
from ..errors import SfumatoError
from ..methods import METHODS
from ..methods.warm_up.fit import FILE, kept_sums
from ..methods.warm_up.method import Warmed
from ..methods.warm_up.moved import Moved
from ..options import Sampling
from ..releases import moved_facts
from ..runs.folder import Run
from ..runs.prepared import method_of
from ..synthesis.dataset import Draw, class_of_each
from ..synthesis.population import Population
from ..synthesis.sampler import pictures, pictures_in_sizes
from .facts import adapted_base, public_base

# Unless asked: pictures a class that are drawn first, on bases of so many pixels and less, and
# where all classes together draw no more than that.
MOVED, SMALL, MOST = 500, 64, 10_000


@dataclass(frozen=True)
class How:
    """How a run's pictures are drawn.

    sampling: as it acts. draw: what draws. facts: what the certificate says of it, beside the
    sampler's own settings.
    """

    sampling: Sampling
    draw: Draw
    facts: dict[str, Any] = field(default_factory=dict)


def drawn_how(run: Run, sampling: Sampling, prompted: bool = False) -> How:
    """How a run's pictures are drawn.

    Args:
        run: A finished run.
        sampling: As it was asked for.
        prompted: Whether a file of prompts says what is drawn.

    Returns:
        Sampling as it acts, what draws, and what the certificate says of it.

    Raises:
        SfumatoError: Options that this run's pictures do not have, or class moments that are gone.
    """
    if METHODS[run.plan.method].hands_over == "pictures":
        if prompted or replace(sampling, batch=Sampling.batch) != Sampling():
            raise SfumatoError(
                f"the pictures of --method {run.plan.method} were drawn by the run: leave"
                " --prompts, --scheduler, --steps, --guidance-scale, --class-moments and --seed out"
            )
        sampling = replace(sampling, seed=int(run.options["seed"]))
        return How(sampling, Population(*load_population(run.model)))
    number = _moved_by(run, sampling.class_moments, prompted)
    sampling = replace(sampling, class_moments=number)
    if not number:
        return How(sampling, pictures_in_sizes)
    moments, digest = run.plan.moments, run.moments
    assert moments is not None and digest is not None  # a finished run has noted them
    noisy = kept_sums(run.folder / FILE, moments, digest)
    if noisy is None:
        raise SfumatoError(
            f"the noisy class moments of the run are gone: put {FILE} of its folder back, or"
            " `sfumato synthesize --class-moments 0`, which leaves pictures as they are drawn"
        )
    method = method_of(run.plan, run.options)
    assert isinstance(method, Warmed)  # no other has moments
    return How(sampling, Moved(moments, noisy, method.side, number), moved_facts(number, digest))


def base_that_draws(run: Run, how: How) -> Base:
    """The adapted base; of a population the public one, whose variations they are."""
    # tokens of a LoRA that was tuned on it are another model's
    return public_base(run) if isinstance(how.draw, Population) else adapted_base(run)


def _moved_by(run: Run, asked: int | None, prompted: bool) -> int:
    """How many pictures a class are drawn first, to move all by; 0: none is moved."""
    moments = run.plan.moments
    if asked is None:
        return 0 if prompted else _usual(run)
    if asked and prompted:
        raise SfumatoError(
            "--class-moments: class moments are of the classes' own prompts: leave it or --prompts"
            " out"
        )
    if asked and (moments is None or moments.rounds < 2):
        raise SfumatoError(
            "--class-moments: this run paid for no class means and covariances: leave it out, or"
            " adapt with --warm-up means"
        )
    if asked and moments and asked < (least := moments.numbers + 1):
        raise SfumatoError(
            f"--class-moments {asked}: a covariance of so few says nothing: at least {least}, or 0"
        )
    return asked


def drawn_alike(run: Run, sampling: Sampling) -> Sampling:
    """Another release's sampling, for a run beside it: moved if that is and this can be."""
    own = run.plan.moments
    if not sampling.class_moments or not own or own.rounds < 2 or not own.counting:
        return replace(sampling, class_moments=0)
    return replace(sampling, class_moments=max(sampling.class_moments, 2 * own.numbers))


def _usual(run: Run) -> int:
    """The same where nobody asked: for small pictures of few classes, whose units are counted."""
    moments = run.plan.moments
    # without counts, a class of many units would be moved too far
    if not moments or moments.rounds < 2 or not moments.counting:
        return 0
    # a whole model draws without the public base, which may be gone
    own = run.model if pipeline_class(run.model) else run.plan.base
    number = max(MOVED, 2 * moments.numbers)
    few = number * moments.classes <= MOST
    return number if few and base_info(own).resolution <= SMALL else 0


def draw_as_released(
    run: Run, n: int, sampling: Sampling, base: Base | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`n` pictures in equal class shares as `synthesize` would draw them, in memory.

    Of a base in several sizes in its first one.

    Args:
        run: A finished run.
        n: How many.
        sampling: As for `drawn_how`.
        base: That draws; None: the run's own.

    Returns:
        uint8 [n, R, R, 3], and labels int64 [n].
    """
    held = METHODS[run.plan.method].hands_over == "pictures"
    how, prompts = drawn_how(run, Sampling() if held else sampling), run.plan.prompts
    labels, base = class_of_each(n, [1.0] * len(prompts)), base or base_that_draws(run, how)
    draw = pictures if how.draw is pictures_in_sizes else how.draw
    with closing(draw(base, prompts, labels, np.arange(n), how.sampling)) as parts:
        return np.concatenate([part for _, part in parts]), labels
