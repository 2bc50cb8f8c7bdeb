"""The plan: everything composed, calibrated last, frozen, and refused when it contradicts
itself.
"""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from sfumato.privacy import accounting
from sfumato.privacy.events import Gaussian, PoissonGaussian
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

GIVEN = {
    "method": "attention",
    "unit": "record",
    "n_units": 2000,
    "max_per_unit": 1,
    "classes": ("0", "1"),
    "prompts": ("a zero", "a one"),
    "epsilon": 1.0,
    "delta": 1e-5,
    "expected_batch_size": 100,
    "steps": 400,
    "noise_draws": 4,
    "clip_norm": 0.5,
    "base": "glyphs",
    "base_digest": "ab" * 32,
    "trainable": 10_000,
    "learning_rate": 1e-3,
    "grid": 1e-3,
}


@pytest.fixture(scope="module")
def plan():
    return make_plan(Request(**GIVEN, histogram_noise_multiplier=25.0, retry_fraction=0.05))


def test_everything_is_composed_and_the_target_is_met(plan):
    assert plan.events == (Gaussian(25.0), PoissonGaussian(0.05, plan.noise_multiplier, 420))
    assert plan.retry_steps == 20 and plan.sampling_rate == 0.05
    assert plan.epsilon <= 1.0 and plan.epsilon == plan.recompute()
    assert plan.noise_multiplier > 3.8744 * 1.01  # dearer than training alone


def test_derived_figures(plan):
    assert (
        plan.signal_bound == 0.5 and plan.noise_stddev == plan.noise_multiplier * plan.sensitivity
    )
    assert (
        0.5
        < plan.sensitivity
        == plan.rounding.sensitivity
        <= 0.5 * (1 + plan.rounding.slack) + plan.rounding.step
    )
    assert plan.noise_norm_expected(40_000) == pytest.approx(
        plan.noise_multiplier * plan.sensitivity * 200 / 100
    )
    assert plan.noise_norm_expected() == plan.noise_norm_expected(10_000)
    assert plan.clip().sensitivity == 0.5


def test_json_round_trip_and_digest(plan):
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan and again.digest == plan.digest
    assert dataclasses.replace(plan, learning_rate=2e-3).digest != plan.digest
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.steps = 1


def test_live_price_errs_upwards_and_ends_at_the_plan(plan):
    prices = [plan.epsilon_after(steps) for steps in range(421)]
    assert prices == sorted(prices) and prices[-1] == plan.epsilon
    assert prices[0] == accounting.epsilon_of([Gaussian(25.0)], 1e-5, grid=1e-3)
    for steps in (1, 3, 7, 30, 111, 250, 390):
        events = (Gaussian(25.0), PoissonGaussian(0.05, plan.noise_multiplier, steps))
        assert prices[steps] >= accounting.exact_epsilon(events, 1e-5)
    for steps in (-1, 421, 1.5):
        with pytest.raises(ValueError):
            plan.epsilon_after(steps)


def test_live_price_without_much_noise():
    plan = make_plan(Request(**GIVEN | {"epsilon": 10.0, "grid": 1e-2}))
    assert plan.epsilon_after(0) == 0.0
    for steps in (1, 2, 4, 5, 9, 17, 60, 350):
        events = (PoissonGaussian(0.05, plan.noise_multiplier, steps),)
        assert plan.epsilon_after(steps) >= accounting.exact_epsilon(events, 1e-5, grid=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 1.0},
        {"steps": 300},
        {"delta": 1e-3},
        {"sampling_rate": 0.01},
        {"histogram_noise_multiplier": None},
        {"epsilon": 1.5},
        {"epsilon": math.nan},
        {"clipping": "normalised"},
        {"gamma": 0.1},
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan, change):
    with pytest.raises(ValueError):
        dataclasses.replace(plan, **change)


def test_recompute_sees_a_changed_epsilon(plan):
    with pytest.raises(ValueError, match="does not follow"):
        dataclasses.replace(plan, epsilon=0.5).recompute()


@pytest.mark.parametrize(
    "edit", [lambda b: b.pop("steps"), lambda b: b.update(extra=1), lambda b: b.update(events=None)]
)
def test_other_json_is_refused(plan, edit):
    body = plan.to_json()
    edit(body)
    with pytest.raises(ValueError):
        Plan.from_json(body)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"delta": 0}, "delta"),
        ({"delta": -1}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"delta": 5e-4}, "allow_large_delta"),
        ({"n_units": 1}, "n_units"),
        ({"expected_batch_size": 0}, "expected_batch_size"),
        ({"expected_batch_size": 2001}, "expected_batch_size"),
        ({"expected_batch_size": math.nan}, "expected_batch_size"),
        ({"steps": 0}, "steps"),
        ({"steps": 10.0}, "steps"),
        ({"noise_draws": 0}, "noise_draws"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"clip_norm": None}, "clip_norm"),
        ({"clipping": "layerwise"}, "clipping"),
        ({"relation": "swap"}, "relation"),
        ({"classes": ()}, "classes"),
        ({"classes": ("0", "0")}, "classes"),
        ({"prompts": ("one",)}, "prompt"),
        ({"retry_fraction": -0.1}, "retry_fraction"),
        ({"histogram_noise_multiplier": 0}, "histogram_noise_multiplier"),
        ({"histogram_noise_multiplier": 3.0}, "drop the noisy histogram"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"rank": 0}, "rank"),
        ({"max_per_unit": 0}, "max_per_unit"),
        ({"clipping": "normalised", "clip_norm": 0.5}, "sensitivity 1"),
        ({"unit": ""}, "unit"),
        ({"gamma": 0.1}, "gamma"),
        ({"trainable": 1 << 46}, "at most 2.54 numbers"),
    ],
)
def test_bad_input_gets_one_line(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        make_plan(Request(**GIVEN | change))
    assert "\n" not in str(caught.value)


def test_large_delta_is_recorded():
    plan = make_plan(Request(**GIVEN | {"delta": 1e-3}, allow_large_delta=True))
    assert plan.opt_ins == ("large-delta",)
    assert (
        make_plan(Request(**GIVEN, allow_large_delta=True)).opt_ins == ()
    )  # not needed, so not used


def test_normalised_clipping_has_sensitivity_one():
    plan = make_plan(Request(**GIVEN | {"clipping": "normalised", "clip_norm": None}))
    assert plan.signal_bound == 1.0 and plan.gamma == 0.01 and plan.clip().kind == "normalised"


def test_normalised_clipping_takes_no_clip_norm():
    """A C that the clip ignored and the noise used would make the noise too small by 1 / C."""
    for clip_norm in (0.5, 2.0):
        with pytest.raises(ValueError, match="sensitivity 1"):
            make_plan(Request(**GIVEN | {"clipping": "normalised", "clip_norm": clip_norm}))


def test_replace_one_needs_twice_the_noise():
    plan = make_plan(
        Request(**GIVEN | {"relation": "replace-one", "expected_batch_size": 2000, "steps": 1})
    )
    assert plan.noise_multiplier == pytest.approx(2 * 3.7306, rel=1e-3)
