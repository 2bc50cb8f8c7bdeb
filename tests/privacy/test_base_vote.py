"""The vote for a base: what a plan pays for it, and what its fields may be."""

from __future__ import annotations

import json

import pytest

from sfumato.privacy import accounting
from sfumato.privacy.events import Gaussian, PoissonGaussian
from sfumato.privacy.mechanisms.base_vote import LIKELIEST, NEAREST, SPACES, BaseVote
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.plan import Plan, make_plan
from sfumato.privacy.request import Request

VOTE = BaseVote(("glyphs", "letters"), ("00", "11"), 300, "pixels, 16 x 16")
GIVEN = {
    "method": "attention",
    "unit": "record",
    "n_units": 5000,
    "max_per_unit": 1,
    "classes": ("a", "b"),
    "prompts": ("a", "b"),
    "epsilon": 1.0,
    "delta": 1e-5,
    "expected_batch_size": 500,
    "steps": 40,
    "noise_draws": 1,
    "clip_norm": 0.2,
    "base": "glyphs",
    "base_digest": "00",
    "trainable": 1000,
    "learning_rate": 1e-3,
    "grid": 1e-2,
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Request(**GIVEN, base_vote=VOTE, base_vote_epsilon=0.3))


def test_the_plan_pays_for_the_votes_before_training(plan):
    assert len(plan.events) == 2
    vote, training = plan.events
    assert vote == Gaussian(plan.base_vote.noise_multiplier)
    assert isinstance(training, PoissonGaussian) and training.steps == 40
    alone = accounting.epsilon_of((vote,), 1e-5, grid=1e-2)
    assert 0.29 < alone <= 0.3  # what was asked, by itself
    together = accounting.epsilon_of((vote, training), 1e-5, grid=1e-2)
    assert together == plan.epsilon <= 1.0
    without = make_plan(Request(**GIVEN))
    assert plan.base_vote.noise_before == without.noise_multiplier < plan.noise_multiplier


def test_all_candidates_cost_the_same_and_the_plan_is_read_again(plan):
    other = GIVEN | {"base": "letters", "base_digest": "11", "trainable": 9_000_000}
    made = make_plan(Request(**other, base_vote=VOTE, base_vote_epsilon=0.3))
    assert (made.events, made.epsilon) == (plan.events, plan.epsilon)
    assert made.digest != plan.digest
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "base_vote" not in make_plan(Request(**GIVEN)).to_json()


def test_votes_a_probe_and_a_histogram_are_priced_together():
    probe = Probe(("a", "b", "c"), 1, "votes", 1, None, False, 500.0, 2)
    more = {"probe": probe, "histogram_noise_multiplier": 30.0, "base_vote": VOTE}
    made = make_plan(Request(**GIVEN, **more))
    assert [type(e).__name__ for e in made.events] == ["Gaussian"] * 2 + ["PoissonGaussian"] * 2
    assert accounting.epsilon_of(made.events, 1e-5, grid=1e-2) <= 1.0


@pytest.mark.parametrize(
    "change", [{"base": "icons"}, {"base_digest": "22"}, {"base_vote_epsilon": 1.0}]
)
def test_a_plan_that_contradicts_its_vote_is_none(change):
    with pytest.raises(ValueError):
        make_plan(Request(**GIVEN | {"base_vote": VOTE} | change))


@pytest.mark.parametrize(
    "field",
    [
        {"bases": ("a",), "digests": ("1",)},
        {"bases": ("a", "a")},
        {"digests": ("1",)},
        {"pictures": 0},
        {"features": ""},
        {"features": SPACES[LIKELIEST]},
        {"rule": LIKELIEST},
        {"noise_multiplier": float("nan")},
        {"noise_before": 0.0},
        {"rule": "another"},
        {"rule": None},
    ],
)
def test_a_vote_that_contradicts_itself_is_none(field):
    own = {"bases": ("a", "b"), "digests": ("1", "2"), "pictures": 3}
    own |= {"features": SPACES[NEAREST]}
    vote = BaseVote(**own)
    assert BaseVote.from_json(json.loads(json.dumps(vote.to_json()))) == vote
    assert vote.best([1.0, 1.0]) == 0 and vote.best([-3.0, -1.0]) == 1
    with pytest.raises(ValueError):
        BaseVote(**own | field)
    with pytest.raises(ValueError):
        BaseVote.from_json({**vote.to_json(), "more": 1})
    with pytest.raises(ValueError):
        vote.best([1.0])


def test_a_vote_of_before_there_were_rules_is_of_the_nearest_picture_and_the_same_bytes():
    stored = (
        '{"bases": ["glyphs", "letters"], "digests": ["00", "11"], "features": "pixels, 16 x 16",'
        ' "noise_before": 1.5, "noise_multiplier": 33.0, "pictures": 300}'
    )
    vote = BaseVote.from_json(json.loads(stored))
    assert vote.rule == NEAREST and json.dumps(vote.to_json(), sort_keys=True) == stored
    asked = {"rule": LIKELIEST, "features": SPACES[LIKELIEST]}
    today = BaseVote.from_json(json.loads(stored) | asked)
    assert today != vote and today.to_json()["rule"] == LIKELIEST
