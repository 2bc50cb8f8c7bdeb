"""The learning rate of a plan that names none: lower where noise rules, and never otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.methods import METHODS
from sfumato.options import Recipe
from sfumato.planning.facts import PublicFacts
from sfumato.planning.forecast import noise_over_signal
from sfumato.planning.prepare import default_schedule, prepare
from sfumato.planning.rates import rate_without_noise, remarks, with_default_rate
from sfumato.planning.task import task_of
from sfumato.runs.prepared import rebuild
from tests.plans import of_training

# what trains on the bundled base `letters`
NUMBERS = {"lora": 47_744, "saliency": 7_808, "loda": 64_768, "attention": 795_136}
ADAPTERS = ("lora", "saliency", "loda")


def plan_of(method, n, epsilon, delta=None, **schedule):
    delta = n**-1.5 if delta is None else delta
    asked = {
        "method": method,
        "trainable": NUMBERS[method],
        "learning_rate": METHODS[method].learning_rate,
    }
    named = default_schedule(n, epsilon) | schedule
    return of_training(n_units=n, epsilon=epsilon, delta=delta, grid=0.01, **asked, **named)


@pytest.mark.parametrize("method", ADAPTERS)
def test_where_noise_rules_an_adapter_learns_in_steps_that_it_bears(method):
    own, bears = METHODS[method].learning_rate, METHODS[method].bears
    loud = plan_of(method, 500, 1.0)
    rate = with_default_rate(loud).learning_rate
    noise = noise_over_signal(loud)
    assert rate == pytest.approx(own / 2 * min(1, bears[1] / noise), rel=0.06) and rate <= own / 2
    (said,) = remarks(with_default_rate(loud))
    assert f"{rate:g} in place of {own:g}" in said and "--learning-rate" in said
    # its twin without noise is no slower for it, unless somebody asked for the rate
    assert rate_without_noise(with_default_rate(loud)) == own
    assert rate_without_noise(replace(loud, learning_rate=0.3)) == 0.3


@pytest.mark.parametrize("method", NUMBERS)
def test_many_units_keep_the_rates_that_they_were_measured_with(method):
    demo = {"expected_batch_size": 1024, "steps": 60, "noise_draws": 1, "delta": 1e-5}
    beside = demo | {"expected_batch_size": 512, "steps": 40}
    for plan in (
        plan_of(method, 60_000, 1.0, **demo),
        plan_of(method, 60_000, 1.0, **beside),
        plan_of(method, 60_000, 1.0),
        plan_of(method, 8192, 10.0),
    ):
        assert with_default_rate(plan) == plan and remarks(plan) == []


@pytest.mark.parametrize("n", [250, 500, 1000])
def test_few_digits_get_the_rate_that_was_measured_not_to_spoil_them(n):
    plan = plan_of("lora", n, 10.0, delta=1e-5)  # docs/methods.md: 0.04 reads 27, 31, 53 percent
    assert with_default_rate(plan).learning_rate == 0.02


def test_a_rate_that_was_asked_for_stays(tiny_base):
    facts = PublicFacts(n_units=60, classes=("circle", "cross", "square"))
    asked = {"base": str(tiny_base), "epsilon": 0.5, "delta": 1e-5, "method": "lora"}
    lowered = prepare(facts, task_of(**asked)[2])
    rate = lowered.plan.learning_rate
    assert rate < 0.04 and lowered.recipe.learning_rate == rate
    assert lowered.options["recipe"]["learning_rate"] == rate
    for one in (0.04, 0.3):
        made = prepare(facts, task_of(**asked, recipe=Recipe(learning_rate=one))[2])
        assert made.plan.learning_rate == one == made.recipe.learning_rate
        assert remarks(made.plan) == []
        # as a run of an earlier version, whose plan says what was decided then
        assert rebuild(made.plan, made.options).recipe.learning_rate == one
    assert replace(made.plan, learning_rate=rate) == lowered.plan, "nothing else is decided by it"
