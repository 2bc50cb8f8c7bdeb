"""Rounds of votes in a certificate: billed as they were asked, and a forger's fewer rounds, smaller
noise or larger bound fail.
"""

from __future__ import annotations

import copy

import pytest

from sfumato.privacy import events
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.releases.mechanism import mechanism
from tests.plans import billed, passed

CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def facts():
    return billed(
        method="evolution",
        expected_batch_size=150,
        retry_fraction=0.2,
        base="icons",
        voting=VoteHistogram(20, 2, 1, "latents"),
    )


def votes_hold(facts) -> bool:
    """The consistency check's verdict on the query alone."""
    from sfumato.releases import consistency

    query = facts["mechanism"]["one_shot"][0]
    try:
        return consistency._votes(query, facts)[0]
    except (ValueError, KeyError):
        return False


def test_what_was_asked_is_what_is_billed(facts):
    said, plan = facts["mechanism"], facts["plan"]
    query, histogram = said["one_shot"]
    assert said["billed_steps"] == 0 and said["sampling_rate"] is None and said["steps"] is None
    assert (query["rounds"], query["count"]) == (5, 6)
    assert events.from_json(facts["events"])[-1].count == 6
    assert query["noise_stddev"] >= plan.noise_multiplier and histogram["name"] == "label histogram"
    assert passed(facts) and votes_hold(facts)


@pytest.mark.parametrize("rounds", [1, 5, 7])
def test_rounds_that_are_not_billed_fail(facts, rounds):
    forged = copy.deepcopy(facts)
    forged["events"][-1]["count"] = rounds
    assert not passed(forged)


def test_more_rounds_than_are_billed_fail_in_the_file_that_travels_with_a_release(facts):
    for change in ({"rounds": 60}, {"count": 1}, {"count": None}):
        forged = copy.deepcopy(facts)
        query = forged["mechanism"]["one_shot"][0]
        query.update(change)
        if query["count"] is None:  # one question, where nothing says how many
            del query["count"]
        forged["events"][-1]["count"] = query.get("count", 1)
        assert not passed(forged)
    forged = copy.deepcopy(facts)
    query = forged["mechanism"]["one_shot"][0]
    query["noise_stddev"] /= 100
    del query["sensitivity"]
    assert not passed(forged)


def test_noise_below_the_bill_fails(facts):
    forged = copy.deepcopy(facts)
    forged["mechanism"]["one_shot"][0]["noise_stddev"] *= 0.99
    assert not passed(forged) and not votes_hold(forged)


@pytest.mark.parametrize(
    "change",
    [
        {"sensitivity": 2.0},
        {"rounds": 7},
        {"count": 0},
        {"sampling_rate": 0.5},
        {"noise": 1.0},
        {"candidates": 21},
        {"classes": 4},
        {"type": "poisson_gaussian"},
    ],
)
def test_a_forged_query_fails(facts, change):
    forged = copy.deepcopy(facts)
    forged["mechanism"]["one_shot"][0].update(change)
    assert not votes_hold(forged)


def test_votes_without_their_event_make_no_certificate(facts):
    from sfumato.errors import SfumatoError

    body = facts["plan"].to_json()
    with pytest.raises(SfumatoError, match="do not pay for"):
        mechanism(body, body["events"][:1])
