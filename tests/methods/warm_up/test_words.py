"""When a plan proposes class moments: by public numbers alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sfumato.methods import METHODS, Attention, Lora
from tests.plans import of_training

DIGITS = tuple("0123456789")


def proposed(plan, method=None, buckets=(), shard_base=False, tokens=True):
    base, how = SimpleNamespace(buckets=buckets), SimpleNamespace(shard_base=shard_base)
    trains = SimpleNamespace(reads_prompts=tokens)
    prepared = SimpleNamespace(plan=plan, base=base, performance=how, adaptation=trains)
    return (method or Attention()).proposals(prepared)


def of_digits(n, **more):
    said = {"classes": DIGITS, "prompts": DIGITS, "delta": 1e-5, "grid": 0.01}
    return of_training(n_units=n, **said | more)


@pytest.fixture(scope="module")
def plan():
    said = {"n_units": 60_000, "classes": DIGITS, "prompts": DIGITS, "epsilon": 1.0}
    return of_training(**said, delta=1e-5, expected_batch_size=1024, grid=0.01)


def test_class_moments_are_proposed_for_many_units_a_class(plan):
    (said,) = proposed(plan)
    assert "6,000 units a class" in said and "--warm-up means" in said
    assert proposed(plan, Lora()) == [said]


def test_class_moments_are_proposed_nowhere_else(plan):
    alone = replace(plan, classes=("",), prompts=("",))
    few = of_digits(2000)
    low = of_training(n_units=60_000, epsilon=0.1, classes=DIGITS, prompts=DIGITS, delta=1e-5)
    for other in (alone, few, low, replace(plan, captions=True)):
        assert proposed(other) == []
    assert proposed(plan, buckets=((32, 48),)) == [] == proposed(plan, shard_base=True)
    # methods that have no warm-up
    assert proposed(plan, METHODS["saliency"]()) == [] == proposed(plan, METHODS["loda"]())


def test_at_a_larger_epsilon_fewer_units_are_enough():
    (said,) = proposed(of_digits(2000, epsilon=10.0))
    assert said.startswith("200 units a class are enough")
    assert proposed(of_digits(1990, epsilon=10.0)) == [] == proposed(of_digits(2000, epsilon=4.0))


def test_a_handful_of_units_is_sent_to_one_mean_of_tokens():
    few = of_digits(500, expected_batch_size=100, epsilon=1.0)
    for method in (Attention(), METHODS["saliency"]()):
        (said,) = proposed(few, method)
        assert said.startswith("500 units are few") and "--method inversion" in said
    assert proposed(few, tokens=False) == [], "the base knows the words: nothing was measured"
    assert proposed(few, METHODS["embedding"]()) == []
    assert proposed(replace(few, classes=("",), prompts=("",))) == []
    assert proposed(of_digits(501, expected_batch_size=100)) == []
    assert proposed(of_digits(500, expected_batch_size=100, epsilon=10.0)) == []
