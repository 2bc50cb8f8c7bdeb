"""A plan of rounds of votes: its event, its price by the analytic Gaussian, and contradictions that
cannot exist.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sfumato.privacy import curves
from sfumato.privacy.events import Gaussian
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

VOTING = VoteHistogram(20, 2, 1, "latents")


def plan(**changes) -> Plan:
    given = {
        "method": "evolution",
        "unit": "record",
        "n_units": 150,
        "max_per_unit": 1,
        "classes": ("a", "b"),
        "prompts": ("a", "b"),
        "epsilon": 1.0,
        "delta": 1e-5,
        "expected_batch_size": 150,
        "steps": 9,
        "noise_draws": 1,
        "clip_norm": 1.0,
        "base": "icons",
        "base_digest": "00",
        "trainable": 20,
        "learning_rate": 1e-3,
        "voting": VOTING,
        "grid": 1e-3,
    }
    return make_plan(Request(**given | changes))


def test_rounds_compose_to_one_gaussian_of_the_root_of_their_number():
    made = plan(grid=1e-4)
    assert made.events == (Gaussian(made.noise_multiplier, 9),)
    assert made.epsilon <= 1.0 and made.recompute() == made.epsilon
    # nine rounds at sigma are one at sigma / 3: analytic Gaussian at epsilon 1, delta 1e-5
    assert made.noise_multiplier / 3 == pytest.approx(3.7306, rel=1e-3)
    assert curves.gaussian_delta(3 / made.noise_multiplier, 1.0) <= 1e-5


def test_the_reserve_is_billed_and_replace_one_doubles_once():
    paid = plan(retry_fraction=0.3)
    assert paid.events == (Gaussian(paid.noise_multiplier, 12),)
    assert paid.noise_multiplier == pytest.approx(
        plan().noise_multiplier * math.sqrt(12 / 9), rel=2e-3
    )
    double = plan(relation="replace-one").noise_multiplier
    assert double == pytest.approx(2 * plan().noise_multiplier, rel=1e-3)


def test_a_histogram_composes_with_it_and_the_price_grows_by_rounds():
    both = plan(histogram_noise_multiplier=20.0)
    assert both.noise_multiplier > plan().noise_multiplier and both.epsilon <= 1.0
    assert both.events == (Gaussian(20.0), Gaussian(both.noise_multiplier, 9))
    after = [both.epsilon_after(step) for step in range(10)]
    assert after == sorted(after) and after[0] > 0 and after[9] == both.epsilon
    assert after[1] < after[8] <= both.epsilon


def test_json_round_trip_and_old_plans_keep_their_digest():
    made = plan()
    again = Plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and again.digest == made.digest and again.voting == VOTING
    trained = plan(voting=None)
    assert "voting" not in trained.to_json() and Plan.from_json(trained.to_json()) == trained


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"expected_batch_size": 75}, "every unit votes in every round"),
        ({"clip_norm": 0.5}, "votes have norm 1"),
        ({"clipping": "normalised", "clip_norm": None}, "votes have norm 1"),
        ({"trainable": 21}, "one noisy number for each"),
        ({"classes": ("a",), "prompts": ("a",)}, "candidates for each class"),
    ],
)
def test_contradictions_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        plan(**change)


def test_a_plan_with_other_events_than_its_rounds_does_not_exist():
    made = plan()
    for events in ((), (Gaussian(made.noise_multiplier),), (Gaussian(made.noise_multiplier, 8),)):
        with pytest.raises(ValueError, match="do not follow from the plan's fields"):
            replace(made, events=events)
