"""Class moments in the plan: composed before training is calibrated, priced as an outsider would,
and within their share.
"""

from __future__ import annotations

import json
from dataclasses import replace

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant

from sfumato.privacy import calibration
from sfumato.privacy.events import Gaussian, PoissonGaussian
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

OWN = Moments(2, 4, 2, (2.0, 0.5), (500.0, 500.0))


def plan(**changes) -> Plan:
    fields = {
        "method": "full",
        "unit": "record",
        "n_units": 1000,
        "max_per_unit": 1,
        "classes": ("a", "b"),
        "prompts": ("a", "b"),
        "epsilon": 1.0,
        "delta": 1e-5,
        "expected_batch_size": 100,
        "steps": 50,
        "noise_draws": 1,
        "clip_norm": 1.0,
        "base": "b",
        "base_digest": "",
        "trainable": 10,
        "learning_rate": 1e-3,
        "grid": 1e-3,
        "moments": OWN,
    }
    return make_plan(Request(**fields | changes))


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan()


def test_the_share_is_kept_and_used(made):
    own = made.moments
    assert own.noise_before * 1.05 <= made.noise_multiplier <= own.noise_before * 1.1 + 1e-4
    more = plan(moments_share=0.5)
    assert more.moments.noise_multiplier < own.noise_multiplier
    assert own.noise_before == plan(moments=None).noise_multiplier


def test_an_outsider_gets_the_same_price(made):
    own = made.moments
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL, 1e-3)
    accountant.compose(dp.GaussianDpEvent(own.noise_multiplier), 2)
    training = dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(made.noise_multiplier))
    accountant.compose(training, 50)
    assert made.epsilon - 1e-3 <= accountant.get_epsilon(1e-5) <= made.epsilon <= 1.0
    assert made.events == (
        Gaussian(own.noise_multiplier, 2),
        PoissonGaussian(0.1, made.noise_multiplier, 50),
    )


def test_one_round_is_one_question_and_a_histogram_joins():
    means = replace(OWN, rounds=1, bounds=(2.0,))
    both = plan(moments=means, histogram_noise_multiplier=50.0)
    assert both.events[:2] == (Gaussian(50.0), Gaussian(both.moments.noise_multiplier, 1))
    assert both.epsilon <= 1.0


def test_json_round_trip_and_old_plans_keep_their_digest(made):
    again = Plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and again.digest == made.digest
    trained = plan(moments=None)
    assert "moments" not in trained.to_json() and Plan.from_json(trained.to_json()) == trained


def test_contradictions_and_too_little_are_refused():
    with pytest.raises(ValueError, match="one block for each class"):
        plan(classes=("a",), prompts=("a",))
    with pytest.raises(ValueError, match="moments_share"):
        plan(moments_share=0.0)
    with pytest.raises(ValueError, match="with no probe"):
        plan(probe=Probe(("x", "y"), 1, "votes", 1, None, False, 100.0, 1))
    with pytest.raises(ValueError, match="go before training"):
        plan(voting=VoteHistogram(20, 2, 1, "latents"), expected_batch_size=1000, trainable=20)


def test_a_share_that_pays_for_nothing_is_refused(monkeypatch):
    def none(*given):
        raise ValueError("no probe")

    monkeypatch.setattr(calibration, "calibrate_probe", none)
    with pytest.raises(ValueError, match="raise --warm-up-share"):
        plan()


def test_a_plan_with_other_events_than_its_moments_does_not_exist(made):
    own, training = made.moments, made.events[-1]
    for events in (
        (training,),
        (Gaussian(own.noise_multiplier), training),
        (Gaussian(2 * own.noise_multiplier, 2), training),
    ):
        with pytest.raises(ValueError, match="do not follow from the plan's fields"):
            replace(made, events=events)
    with pytest.raises(ValueError, match="no noise multiplier"):
        replace(made, moments=OWN)
