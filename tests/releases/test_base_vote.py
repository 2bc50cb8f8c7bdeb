"""The vote for a base in a certificate: it says by what rule; one of before says what it did."""

from __future__ import annotations

import pytest

from sfumato.privacy.mechanisms.base_vote import LIKELIEST, NEAREST, BaseVote
from sfumato.releases import consistency
from sfumato.releases.mechanism import BASE_VOTE_RULES, mechanism
from sfumato.releases.statements import base_vote_facts
from tests.plans import billed

BASES, DIGESTS = ("glyphs", "letters"), ("00", "11")


def facts_of(rule: str, features: str) -> dict:
    vote = BaseVote(BASES, DIGESTS, 300, features, rule=rule)
    found = billed(
        method="attention", expected_batch_size=50, base="glyphs", base_digest="00", base_vote=vote
    )
    said = base_vote_facts(BASES, DIGESTS, (0.7, 0.3), 0)
    return found | {"base_vote": said, "conditions": {"base_digest": "00"}}


def query_of(facts: dict) -> dict:
    (query,) = [one for one in facts["mechanism"]["one_shot"] if one["name"] == "base vote"]
    return query


@pytest.fixture(scope="module")
def today() -> dict:
    return facts_of(LIKELIEST, "grey of one contrast, 16 x 16")


@pytest.fixture(scope="module")
def former() -> dict:
    return facts_of(NEAREST, "pixels, 16 x 16")


def test_a_certificate_names_space_and_rule(today):
    query = query_of(today)
    assert (query["rule"], query["features"]) == (LIKELIEST, "grey of one contrast, 16 x 16")
    assert "Gaussian" in query["rule_in_words"] and "nearest" not in query["rule_in_words"]
    assert consistency._base_vote(query, today)[0]


def test_one_of_before_names_no_rule_and_is_held_to_the_nearest_picture(former):
    query = query_of(former)
    assert "rule" not in query and query["features"] == "pixels, 16 x 16"
    assert "public picture is nearest" in query["rule_in_words"]
    assert consistency._base_vote(query, former)[0]
    body = former["plan"].to_json()
    assert "rule" not in body["base_vote"]
    again = mechanism(body, body["events"])
    assert again["one_shot"] == former["mechanism"]["one_shot"]


def test_words_of_another_rule_fail(today, former):
    forged = query_of(today) | {"rule_in_words": BASE_VOTE_RULES[NEAREST]}
    assert not consistency._base_vote(forged, today)[0]
    without = {name: value for name, value in query_of(today).items() if name != "rule"}
    assert not consistency._base_vote(without, today)[0]
    assert not consistency._base_vote(query_of(former) | {"rule": LIKELIEST}, former)[0]


@pytest.mark.parametrize("field", [{"features": "pixels, 16 x 16"}, {"pictures": 0.5}])
def test_another_space_than_the_rule_s_or_no_pictures_fail(today, field):
    assert not consistency._base_vote(query_of(today) | field, today)[0]
