"""From a user's words to prompts, a plan and an adaptation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.bases import load_base
from sfumato.errors import DataError, SfumatoError
from sfumato.methods import METHODS, Attention, Lora
from sfumato.methods.prompts import choose_prompts
from sfumato.options import Recipe
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import (
    CLASSES_FOUND,
    DOUBTFUL_SAID,
    OVERLAP_SAID,
    default_schedule,
    prepare,
)
from sfumato.planning.task import task_of
from sfumato.planning.warnings import remarks_on
from sfumato.runs.prepared import rebuild, shares_of

CLASSES = ("circle", "cross", "square")


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


def records(n=200, unit_column=None, classes=CLASSES):
    return PublicFacts(n_units=n, classes=classes, unit_column=unit_column)


def task(**asked):
    return task_of(**asked)[2]


def ready(tiny_base, **more):
    more = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3} | more
    return prepare(records(), task(base=str(tiny_base), **more))


def test_known_words_are_their_own_prompts(base):
    found = choose_prompts(base, CLASSES)
    assert found.prompts == CLASSES and found.placeholders == () == found.initializers


def test_templates_and_single_texts(base):
    assert (
        choose_prompts(base, CLASSES, prompt="a picture of a {class}").prompts[1]
        == "a picture of a cross"
    )
    own = {"circle": "round", "cross": "two lines", "square": "four"}
    assert choose_prompts(base, CLASSES, prompt=own).prompts == ("round", "two lines", "four")
    with pytest.raises(SfumatoError, match="no text for the class square"):
        choose_prompts(base, CLASSES, prompt={"circle": "round", "cross": "two lines"})


def test_classes_without_a_word_get_a_token_of_their_own(base):
    found = choose_prompts(base, ("circle", "zebra"), prompt="a {class}")
    assert found.prompts == ("a circle", "a <zebra>") and found.placeholders == (None, "<zebra>")
    assert found.initializers == (None, None) and found.tokens == {"<zebra>": None}
    found = choose_prompts(base, ("circle", "zebra"), init={"zebra": "cross"})
    assert found.prompts == ("circle", "<zebra>") and found.tokens == {"<zebra>": "cross"}
    assert found.texts == ("circle", "<zebra>", "cross")
    assert choose_prompts(base, ("circle", "zebra"), embedder=False).prompts == ("circle", "zebra")
    assert choose_prompts(base, CLASSES, embedder=True).placeholders == (
        "<circle>",
        "<cross>",
        "<square>",
    )
    with pytest.raises(SfumatoError, match="need {class} in every prompt"):
        choose_prompts(base, CLASSES, prompt="a picture", embedder=True)


def test_a_token_stands_for_the_unknown_word_alone(base):
    """The known words of a class's name stay, and names are the words' own unless they cannot
    be.
    """
    names = ("cross zebra", "Circle", "zebra", "Zebra!", "7", "cross a-b circle yak", "ёж")
    found = choose_prompts(base, names, prompt="a {class}")
    assert found.prompts == (
        "a cross <zebra>", "a Circle", "a <zebra2>", "a <zebra3>", "a <class-4>",
        "a cross <a-b-circle-yak>", "a <class-6>",
    )  # fmt: skip
    assert len(found.tokens) == 6 and found.placeholders[1] is None
    base = load_base(base.info.folder)
    base.add_tokens(["<zebra>"], [None])
    assert choose_prompts(base, ("zebra",)).prompts == ("<zebra2>",)


RECORDS = SimpleNamespace(classes_found=False, unit_column=None, kind="table", captions=None)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (
            ("circle", "zebra"),
            ["the base does not know 'zebra': a token <zebra> is trained for it"],
        ),
        (
            ("zebra", "cross yak"),
            ["the base does not know 'zebra', 'yak': tokens <zebra>, <yak> are trained for them"],
        ),
        (CLASSES, []),
    ],
)
def test_the_plan_says_which_words_become_tokens(tiny_base, classes, said):
    asked = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
    found = prepare(records(classes=classes), task(base=str(tiny_base), **asked))
    remarks = remarks_on(found, RECORDS)
    assert [r.partition(";")[0] for r in remarks if "does not know" in r] == said
    asked["embedder"] = False
    found = prepare(records(classes=classes), task(base=str(tiny_base), **asked))
    remarks = remarks_on(found, RECORDS)
    assert not [r for r in remarks if "does not know" in r]


def test_the_default_schedule_fits_the_data():
    for n in (2, 50, 1000, 60_000):
        for epsilon in (1, 10):
            assert 1 <= default_schedule(n, epsilon)["expected_batch_size"] <= n
    assert default_schedule(60_000, 1.0) == {
        "expected_batch_size": 2048,
        "steps": 150,
        "noise_draws": 4,
    }  # docs/results.md
    assert default_schedule(60_000, 10.0) == {
        "expected_batch_size": 2048,
        "steps": 250,
        "noise_draws": 1,
    }


def test_the_plan_meets_its_target_and_names_what_trains(tiny_base):
    made = ready(
        tiny_base,
        method=Lora(rank=3),
    )
    plan = made.plan
    assert 0 < plan.epsilon <= 2.0 and plan.recompute() == pytest.approx(plan.epsilon, abs=1e-3)
    assert (
        plan.rank == 3
        and plan.target_modules == made.adaptation.targets
        and plan.base_digest == made.base.digest
    )
    assert plan.trainable == sum(p.numel() for p in made.adaptation.trainable.values())
    assert plan.prompts == CLASSES and plan.unit == "record" and plan.max_per_unit == 1


def test_the_most_images_of_a_unit_are_never_read_off_the_data(tiny_base):
    made = prepare(
        records(unit_column="patient"),
        task_of(epsilon=2.0, delta=1e-3, base=str(tiny_base), steps=2, noise_draws=2)[2],
    )
    assert made.plan.unit == "patient" and made.plan.max_per_unit == 2
    with pytest.raises(SfumatoError, match="--max-per-unit"):
        prepare(
            records(unit_column="patient"),
            task_of(epsilon=2.0, delta=1e-3, base=str(tiny_base), histogram=10.0)[2],
        )


def test_no_unit_column_may_pass_for_single_records(tiny_base):
    with pytest.raises(SfumatoError, match="rename the column"):
        prepare(
            records(unit_column="record"), task_of(base=str(tiny_base), epsilon=2.0, delta=1e-3)[2]
        )


def test_the_same_options_make_the_same_start_again(tiny_base):
    made = ready(tiny_base, method="lora", seed=5, embedder=True)
    torch.manual_seed(99)
    own = torch.get_rng_state()
    again = rebuild(made.plan, made.options)
    ready(tiny_base, method="lora", seed=5, embedder=True)
    assert torch.equal(torch.get_rng_state(), own), "the caller's generator is the caller's"
    assert list(again.adaptation.trainable) == list(made.adaptation.trainable)
    assert all(
        torch.equal(p, made.adaptation.trainable[n]) for n, p in again.adaptation.trainable.items()
    )
    assert again.recipe == made.recipe and again.performance == made.performance


def test_another_base_is_refused(tiny_base, tiny_base_epsilon):
    made = ready(tiny_base)
    with pytest.raises(SfumatoError, match="its hash differs"):
        rebuild(replace(made.plan, base=str(tiny_base_epsilon)), made.options)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"epsilon": float("nan")}, "--epsilon"),
        ({"epsilon": 0.0}, "--epsilon"),
        ({"epsilon": -1.0}, "--epsilon"),
        ({"epsilon": float("inf")}, "--epsilon"),
        ({"delta": 0.0}, "--delta"),
        ({"delta": float("nan")}, "--delta"),
        ({"delta": 0.1}, "delta must be below 1 / n_units"),
        ({"method": "magic"}, "--method magic"),
        ({"method": "full", "rank": 3}, "--rank does not go with --method full"),
        (
            {
                "method": Attention(blocks="9-"),
            },
            "--blocks",
        ),
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"steps": -1}, "--steps"),
        ({"noise_draws": 0}, "--noise-draws"),
        ({"expected_batch_size": 0}, "--expected-batch-size"),
        ({"expected_batch_size": 1000}, "expected_batch_size|sampling_rate"),
        ({"clip_norm": -1.0}, "clip-norm -1: must be above 0"),
        ({"histogram": 0.1}, "one-shot events alone"),
        ({"base": "nowhere"}, "no base at"),
        ({"relation": "wishful"}, "relation"),
        ({"clipping": "never"}, "clipping"),
    ],
)
def test_bad_words(tiny_base, more, match):
    with pytest.raises(SfumatoError, match=match) as caught:
        prepare(
            records(),
            task_of(**({"epsilon": 2.0, "delta": 1e-3, "base": str(tiny_base), "steps": 3} | more))[
                2
            ],
        )
    assert "\n" not in str(caught.value)


def test_a_large_delta_must_be_asked_for_by_name(tiny_base):
    assert ready(tiny_base, delta=0.1, allow_large_delta=True).plan.opt_ins == ("large-delta",)


def test_shares_of_a_noisy_histogram():
    plan = SimpleNamespace(classes=CLASSES)
    assert (
        shares_of(plan, None)
        == shares_of(plan, np.array([-1.0, -2.0, 0.0]))
        == pytest.approx([1 / 3] * 3)
    )
    assert shares_of(plan, np.array([30.5, -4.0, 10.0])) == pytest.approx(
        [30.5 / 40.5, 0, 10 / 40.5]
    )


def test_adapters_train_at_a_rate_of_their_own_and_tokens_always_at_theirs(tiny_base):
    rates, quiet = {}, {"epsilon": 100.0, "expected_batch_size": 200}
    for method in ("attention", "lora", "saliency", "loda"):
        options = {"keep": 3, "choose": "random"} if method == "saliency" else {}
        made = ready(tiny_base, method=METHODS[method](**options), embedder=True, **quiet)
        rates[method] = made.recipe.learning_rate
        assert rates[method] == METHODS[method].learning_rate
        assert made.plan.learning_rate == made.options["recipe"]["learning_rate"] == rates[method]
        assert made.adaptation.learning_rate_factor["tokens.weight"] * rates[
            method
        ] == pytest.approx(0.04)
    assert rates["lora"] == rates["saliency"] == rates["loda"] > rates["attention"]
    assert (
        ready(tiny_base, method="lora", recipe=Recipe(learning_rate=0.5)).plan.learning_rate == 0.5
    )


def test_the_average_looks_back_further_in_a_long_run(tiny_base):
    assert ready(tiny_base, steps=99).plan.ema_decay == 0.9
    long = ready(tiny_base, steps=100)
    assert long.plan.ema_decay == long.recipe.ema_decay == 0.95
    assert ready(tiny_base, steps=100, recipe=Recipe(ema_decay=0.5)).plan.ema_decay == 0.5
    assert ready(tiny_base, steps=100, recipe=Recipe(ema_decay=0.0)).plan.ema_decay == 0.0


def test_a_found_list_with_classes_of_few_units_stops_the_plan(tiny_base):
    said = {"epsilon": 2.0, "delta": 1e-3, "base": str(tiny_base), "steps": 2}
    some = replace(records(classes=CLASSES[:2]), few=1, classes_found=True)
    with pytest.raises(
        SfumatoError, match="1 of the 3 classes found in the data have fewer than 3 units"
    ) as caught:
        prepare(some, task_of(**said)[2])
    assert (
        caught.value.exit_code == 10
        and "--classes" in str(caught.value)
        and "--yes-public" in str(caught.value)
    )
    assert CLASSES[2] not in str(caught.value)
    some = replace(some, few=0)
    assert CLASSES_FOUND in prepare(some, task_of(**said)[2]).options["statements"]["opt_ins"]
    some = replace(some, classes_found=False)
    assert not prepare(some, task_of(**said)[2]).options["statements"]["opt_ins"]


def test_values_that_may_be_one_persons_are_refused_unless_the_owner_says(tiny_base):
    said = {"epsilon": 2.0, "delta": 1e-3, "base": str(tiny_base), "steps": 2}
    doubtful = replace(records(unit_column="patient"), doubtful=2)
    with pytest.raises(
        DataError,
        match=("2 values of 'patient' may be spellings of one another.*--allow-doubtful-units"),
    ):
        prepare(doubtful, task_of(**said)[2])
    opt_ins = prepare(doubtful, task_of(**said, allow_doubtful_units=True)[2]).options[
        "statements"
    ]["opt_ins"]
    assert opt_ins == [DOUBTFUL_SAID]


def test_public_pictures_that_may_show_units_are_said_on_the_owners_word(tiny_base):
    said = {"epsilon": 2.0, "delta": 1e-3, "base": str(tiny_base), "steps": 2}
    told = [
        prepare(records(), task_of(**said, public_may_overlap=may)[2]).options["statements"]
        for may in (False, True)
    ]
    assert [statements["opt_ins"] for statements in told] == [[], [OVERLAP_SAID]]
