"""Class moments in a certificate: billed as they were asked, and a forger's fewer rounds or smaller
noise fail; a base of random numbers is called one.
"""

from __future__ import annotations

import copy

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.releases import consistency
from sfumato.releases.mechanism import mechanism
from tests.plans import billed, passed

CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def facts():
    return billed(
        method="full",
        expected_batch_size=15,
        base="none:28x28x1",
        moments=Moments(2, 4, 2, (2.0, 0.5), (75.0, 75.0)),
    )


def query_of(facts) -> dict:
    return next(q for q in facts["mechanism"]["one_shot"] if q["name"] == "class moments")


def moments_hold(facts) -> bool:
    try:
        return consistency._moments(query_of(facts), facts)[0]
    except (ValueError, KeyError, TypeError):
        return False


def test_what_was_asked_is_what_is_billed(facts):
    said, plan = facts["mechanism"], facts["plan"]
    query = query_of(facts)
    assert said["billed_steps"] == 5 and query["count"] == 2
    assert [q["name"] for q in said["one_shot"]] == ["class moments", "label histogram"]
    assert query["noise_stddev"] >= plan.moments.noise_multiplier == query["noise"]
    assert passed(facts) and moments_hold(facts)


def test_a_count_beside_the_pictures_is_told(facts):
    moments = Moments(2, 4, 2, (2.0, 0.5), (75.0, 75.0), counting=0.25)
    said = {"method": "full", "expected_batch_size": 15, "base": "none:28x28x1"}
    query = query_of(billed(**said, moments=moments))
    assert query["class_moments"]["counting"] == 0.25 and "counts it" in query["rule_in_words"]
    plain = query_of(facts)
    assert "counting" not in plain["class_moments"] and "counts" not in plain["rule_in_words"]


def test_rounds_that_are_not_billed_fail(facts):
    for place, event in enumerate(facts["events"]):
        if event.get("count") == 2:
            for count in (1, 3):
                forged = copy.deepcopy(facts)
                forged["events"][place]["count"] = count
                assert not passed(forged)
    forged = copy.deepcopy(facts)
    query_of(forged)["count"] = 1
    assert not passed(forged) and not moments_hold(forged)


def test_noise_below_the_bill_fails(facts):
    forged = copy.deepcopy(facts)
    query_of(forged)["noise_stddev"] *= 0.99
    assert not passed(forged) and not moments_hold(forged)


@pytest.mark.parametrize(
    "change",
    [
        {"sensitivity": 2.0},
        {"sampling_rate": 0.5},
        {"noise": 1.0},
        {"type": "poisson_gaussian"},
        {"rule_in_words": "each unit adds nothing"},
        {"class_moments": {"counting": 0.25}},
        {"class_moments": {"rounds": 1}},
        {"class_moments": {"classes": 3}},
        {"class_moments": {"bounds": [1.0]}},
        {"class_moments": {"divisors": [1.0]}},
    ],
)
def test_a_forged_query_fails(facts, change):
    forged = copy.deepcopy(facts)
    query = query_of(forged)
    for name, value in change.items():
        query[name] = query[name] | value if isinstance(value, dict) else value
    assert not moments_hold(forged)


def test_moments_without_their_event_make_no_certificate(facts):
    body = facts["plan"].to_json()
    rest = [event for event in body["events"] if event.get("count") != 2]
    with pytest.raises(SfumatoError, match="do not pay for"):
        mechanism(body, rest)
