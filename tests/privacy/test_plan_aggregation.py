"""A plan of one noisy sum: its event, its price by the analytic Gaussian, and contradictions that
cannot exist.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sfumato.privacy import curves
from sfumato.privacy.events import Gaussian, PoissonGaussian
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

AGGREGATION = Aggregation("clip", 2, 16, 1, "vocabulary", True, (75.0, 75.0))


def plan(**changes) -> Plan:
    given = {
        "method": "inversion",
        "unit": "record",
        "n_units": 150,
        "max_per_unit": 1,
        "classes": ("a", "b"),
        "prompts": ("<a>", "<b>"),
        "epsilon": 1.0,
        "delta": 1e-5,
        "expected_batch_size": 150,
        "steps": 1,
        "noise_draws": 4,
        "clip_norm": 0.2,
        "base": "icons",
        "base_digest": "00",
        "trainable": 32,
        "learning_rate": 1e-3,
        "aggregation": AGGREGATION,
        "grid": 1e-3,
    }
    return make_plan(Request(**given | changes))


def test_all_units_are_one_gaussian_at_the_analytic_sigma():
    made = plan(grid=1e-4)
    assert made.events == (Gaussian(made.noise_multiplier),)
    assert abs(made.noise_multiplier - 3.7306) < 2e-3  # analytic Gaussian at epsilon 1, delta 1e-5
    assert made.epsilon <= 1.0 and made.recompute() == made.epsilon
    assert curves.gaussian_delta(1 / made.noise_multiplier, 1.0) <= 1e-5
    assert made.epsilon_after(0) == made.epsilon_after(1) == made.epsilon
    assert made.noise_stddev == pytest.approx(0.2 * made.noise_multiplier)


def test_replace_one_doubles_the_noise_once():
    assert plan(relation="replace-one").noise_multiplier == pytest.approx(
        2 * plan().noise_multiplier, rel=1e-3
    )


def test_a_sample_is_priced_as_a_poisson_sample_and_never_helps():
    made = plan(expected_batch_size=75, aggregation=replace(AGGREGATION, divisors=(37.5, 37.5)))
    assert made.events == (PoissonGaussian(0.5, made.noise_multiplier, 1),)
    # noise on a mean of half as many units: 1.34 times that of all (arithmetic of the
    # Poisson-sampled Gaussian)
    assert made.noise_multiplier / 0.5 / plan().noise_multiplier == pytest.approx(1.34, abs=0.01)


def test_a_histogram_composes_with_it():
    both = plan(histogram_noise_multiplier=20.0)
    assert both.noise_multiplier > plan().noise_multiplier and both.epsilon <= 1.0
    assert both.events == (Gaussian(20.0), Gaussian(both.noise_multiplier))


def test_json_round_trip_and_old_plans_keep_their_digest():
    made = plan()
    again = Plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and again.digest == made.digest
    trained = plan(aggregation=None, steps=10)
    assert "aggregation" not in trained.to_json() and Plan.from_json(trained.to_json()) == trained


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 2},
        {"retry_fraction": 0.5},
        {"clipping": "normalised", "clip_norm": None},
        {"trainable": 31},
        {"classes": ("a",), "prompts": ("<a>",)},
        # clip norm 0.2
        {"aggregation": Aggregation("unit", 2, 16, 1, "none", False, (75.0, 75.0))},
    ],
)
def test_contradictions_are_refused(changes):
    with pytest.raises(ValueError):
        plan(**changes)


def test_a_plan_whose_event_is_not_its_own_is_refused():
    body = plan().to_json()
    with pytest.raises(ValueError, match="events"):
        Plan.from_json({**body, "noise_multiplier": 2 * body["noise_multiplier"]})
    with pytest.raises(ValueError, match="events"):
        Plan.from_json({k: v for k, v in body.items() if k != "aggregation"})
