"""The cost of an inversion: images per pass, total time, and the expected quality."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from ...compute import ranks
from ...compute.memory import peak_bytes
from ...errors import SfumatoError
from ...options import parse
from ...training import LatentData
from ..interface import Prepared, Timed
from ..room import budget, measuring, require_room
from .adaptation import Inverting
from .advisor import Forecast, forecast
from .batch import Chunk, Inverter
from .controls import PUBLIC_KEY

MOST_ROWS = 256  # in one pass; more gains little on a CPU
# Steps of one image: fewer learn too little of it, more than twice the usual ones gain nothing
# (docs/results.md, "Steps, throughput, time").
FEWEST_STEPS, MOST_STEPS = 20, 160


def fit_rows(prepared: Prepared[Inverting]) -> Prepared[Inverting]:
    """The same with the rows of a chunk decided: as asked, or what the memory budget holds.

    Evenly shared. Measured once, on the first rank, so that all ranks check and run with the same.
    """
    if prepared.performance.micro_batch is not None:
        return prepared
    rows = ranks.on_first_rank(lambda: _fitting_rows(prepared))
    performance = replace(prepared.performance, micro_batch=rows)
    options = prepared.options | {
        "performance": prepared.options["performance"] | {"micro_batch": rows}
    }
    return replace(prepared, performance=performance, options=options)


def _fitting_rows(prepared: Prepared[Inverting]) -> int:
    plan, inverter = prepared.plan, prepared.adaptation.inverter
    most = max(1, MOST_ROWS // inverter.recipe.draws)
    probe = min(4, most)
    where, asked = inverter.base.device, prepared.performance.memory_budget
    room = budget(asked, where, 0)
    with measuring():
        peak = peak_bytes(lambda: _timed(inverter, probe, steps=1))
    fitting = min(most, int(probe * room / max(peak, 1)))
    fitting = require_room(fitting, peak // probe, asked, where, room)
    return math.ceil(plan.n_units / math.ceil(plan.n_units / fitting))


def expected_seconds(prepared: Prepared[Inverting]) -> float:
    """Time of the whole inversion at most, from two steps on dummy images."""
    timed = prepared.timed
    step = seconds_a_step(prepared) if timed is None else timed.pace
    return step * prepared.adaptation.inverter.recipe.steps


def seconds_a_step(prepared: Prepared[Inverting]) -> float:
    """Seconds of one step of all images on dummy ones; ranks share them."""
    inverter, rows = prepared.adaptation.inverter, prepared.performance.micro_batch
    assert rows is not None  # `fit_rows` has decided
    _timed(inverter, rows, steps=1)
    step = _timed(inverter, rows, steps=2) / 2
    return step * math.ceil(prepared.plan.n_units / rows / ranks.world_size())


def steps_in(n_units: int, timed: Timed, seconds: float) -> int:
    """Steps of one image with which the whole inversion takes about so long.

    Args:
        n_units: Images.
        timed: Seconds of one step of all images, and what steps do not change.
        seconds: The whole run's.

    Raises:
        SfumatoError: Not even the fewest steps are that quick.
    """
    steps = int((seconds - timed.fixed) / timed.pace)
    if steps < FEWEST_STEPS:
        least = timed.fixed + FEWEST_STEPS * timed.pace
        raise SfumatoError(
            f"--time {parse.in_words(seconds)}: inverting {n_units:,} images takes at"
            f" least about {parse.in_words(least)} here: give {parse.enough(least)}, a sample of"
            " the images (--expected-batch-size), or take a smaller base"
        )
    return min(steps, MOST_STEPS)


def expectation(prepared: Prepared[Inverting]) -> Forecast:
    """The advisor's answer for this plan."""
    plan, geometry = prepared.plan, prepared.adaptation.geometry
    own = plan.aggregation
    assert own is not None  # an inversion's plan has one
    return forecast(
        noise_multiplier=plan.noise_multiplier,
        units=min(own.divisors),
        dimensions=own.dimensions,
        signal=geometry.signal if own.rule == "clip" else None,
        spectrum=geometry.spectrum if own.shrink else None,
    )


def _timed(inverter: Inverter, rows: int, steps: int) -> float:
    short = inverter.with_recipe(replace(inverter.recipe, steps=steps))
    mean = (
        np.random.default_rng(0).standard_normal((rows, *inverter.latent_shape)).astype(np.float16)
    )
    made_up = LatentData(
        mean,
        np.full_like(mean, 0.1),
        np.zeros(rows, np.int64),
        np.arange(rows),
        np.arange(rows + 1),
    )
    started = time.perf_counter()
    short.invert(made_up, Chunk(np.arange(rows)), PUBLIC_KEY)
    return time.perf_counter() - started
