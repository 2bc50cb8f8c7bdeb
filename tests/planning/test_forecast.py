"""The forecast before the charge: three words from public facts, a stop, and what a release says of
those who went on.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

import sfumato
from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.methods.inversion.advisor import forecast as of_a_sum
from sfumato.planning import forecast
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.runs import budget


@pytest.fixture
def said(whole_tiny_base):
    schedule = {"steps": 3, "expected_batch_size": 8, "micro_batch": 8, "precision": "float32"}
    return {
        "base": str(whole_tiny_base),
        "epsilon": 2.0,
        "delta": 1e-3,
        "yes_public": True,
        **schedule,
    }


def prepared(said, n_units, **more):
    facts = PublicFacts(n_units, ("circle", "cross"))
    return prepare(
        facts, task_of(**said | {"expected_batch_size": n_units // 2, "delta": 1e-6} | more)[2]
    )


def test_the_word_follows_from_noise_over_signal_of_the_whole_run(said):
    words = []
    for n in (20, 200, 2000, 20_000, 200_000):
        made = prepared(said, n)
        plan, found = made.plan, forecast.outlook(made)
        noise = plan.noise_multiplier * plan.sensitivity * math.sqrt(plan.trainable)
        ratio = noise / (n // 2 * plan.clip_norm * math.sqrt(plan.steps))
        assert found.noise == pytest.approx(ratio) and found.n_units == n
        words.append(found.word)
        assert (found.needed is None) == (found.word == forecast.SOMETHING)
        assert "fit of the base: unknown (--stand-in" in found.sentence
    order = [forecast.NOTHING, forecast.LITTLE, forecast.SOMETHING]
    assert sorted(words, key=order.index) == words
    assert words[0] == forecast.NOTHING and words[-1] == forecast.SOMETHING


@pytest.mark.parametrize("method", ["full", "attention", "lora", "embedding"])
def test_few_units_teach_little_whatever_the_method_and_the_noise(said, method):
    tiny = {"method": method} | ({"rank": 1} if method == "lora" else {})
    made = prepared(said, forecast.FEWEST - 1, **tiny | {"epsilon": 500.0})
    found = forecast.outlook(made)
    assert found.noise < forecast.CLEAR  # the noise alone would let it pass
    assert found.word == forecast.LITTLE and "99 units cannot teach" in found.sentence
    assert found.needed == forecast.FEWEST
    drowned = prepared(said, forecast.FEWEST - 1, **tiny | {"epsilon": 0.01})
    with pytest.raises(SfumatoError, match="bring more units, or pay all the same") as caught:
        forecast.require_worth(drowned, False)
    assert "--method" not in str(caught.value) and "--epsilon" not in str(caught.value)
    assert not [line for line in made.method.remarks(made) if "teach" in line]  # said once
    enough = forecast.outlook(prepared(said, forecast.FEWEST, **tiny | {"epsilon": 500.0}))
    assert enough.word == forecast.SOMETHING and "cannot teach" not in enough.sentence


def test_the_cure_of_noise_is_named_where_units_are_not_the_reason(said):
    with pytest.raises(SfumatoError, match="bring more units, raise --epsilon, train fewer"):
        forecast.require_worth(prepared(said, 120, epsilon=0.2), False)


def test_as_many_units_as_it_asks_for_would_do(said):
    poor = forecast.outlook(prepared(said, 40))
    enough = forecast.outlook(prepared(said, poor.needed + 1))
    assert poor.word == forecast.NOTHING and enough.word == forecast.SOMETHING


@pytest.mark.parametrize(
    ("units", "word"), [(10, forecast.NOTHING), (60, forecast.LITTLE), (500, forecast.SOMETHING)]
)
def test_an_inversion_is_judged_by_its_expected_cosine(said, units, word):
    hope = of_a_sum(noise_multiplier=3.73, units=units, dimensions=64)
    plan = prepared(said, 40).plan
    method = SimpleNamespace(forecast=lambda prepared: hope)
    found = forecast.outlook(SimpleNamespace(plan=plan, method=method, options={}))
    assert found.word == word and found.cosine == hope.cosine and found.noise is None


def test_adapt_stops_before_the_charge(said, tiny_images, tmp_path, ledger_of_the_test):
    with pytest.raises(SfumatoError, match="nothing can be learned.*--anyway") as caught:
        verbs.adapt(tiny_images, output=tmp_path / "run", **said)
    assert caught.value.exit_code == 2 and not (tmp_path / "run").exists()
    assert not budget.open_ledger(ledger_of_the_test).chain.of("CHARGE")
    report = verbs.plan(tiny_images, **said)
    assert report.outlook.word == forecast.NOTHING
    assert report.needs == ("--anyway",)  # and the next command names it
    both = verbs.plan(tiny_images, **said | {"yes_public": False}).needs
    assert both == ("--anyway", "--yes-public")
    advice = "say that it is public with --yes-public"  # for whom has not said so alone
    remarks = {
        yes: verbs.plan(tiny_images, **said | {"yes_public": yes}).remarks for yes in (False, True)
    }
    assert advice in "\n".join(remarks[False]) and advice not in "\n".join(remarks[True])
    assert "will be published (circle, cross, square): you have said" in "\n".join(remarks[True])
    assert verbs.plan(tiny_images, **said, anyway=True).needs == ()


def test_who_runs_it_anyway_releases_the_sentence(said, tiny_images, tmp_path):
    run = verbs.adapt(tiny_images, output=tmp_path / "run", anyway=True, **said)
    folder = verbs.synthesize(run, 4, tmp_path / "out", steps=1)
    verbs.release(folder)
    facts = json.loads((folder / "privacy.json").read_text())
    assert forecast.NOTHING_SAID in facts["not_private"]["opt_ins"] and verbs.verify(folder).ok
    assert forecast.NOTHING_SAID in (folder / "PRIVACY.md").read_text().replace("\n", " ")


def test_anyway_says_nothing_of_a_run_that_can_learn(said):
    made = prepared(said, 200_000, anyway=True)
    assert not made.options["statements"]["opt_ins"]
    forecast.require_worth(made, False)


def test_the_forecast_is_a_function_of_the_plan_alone(said):
    made = prepared(said, 40)
    blind = replace(made, adaptation=None, base=None, options={}, start={})
    assert forecast.outlook(blind) == forecast.outlook(made)


@pytest.mark.parametrize("verb", ["plan", "adapt"])
def test_there_is_no_default_base(verb, tiny_images, tmp_path, capsys):
    more = {"output": tmp_path / "run"} if verb == "adapt" else {}
    with pytest.raises(SfumatoError, match="--base is required.*glyphs.*icons.*letters") as caught:
        getattr(sfumato, verb)(tiny_images, epsilon=2.0, **more)
    assert caught.value.exit_code == 2
    words = [verb, str(tiny_images), "--epsilon", "2"]
    words += ["-o", str(tmp_path / "run")] if verb == "adapt" else []
    assert main(words) == 2 and "--base is required" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_first_lines_of_a_plan(said, tiny_images, whole_tiny_base, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # no row is folded
    words = [
        "plan",
        str(tiny_images),
        "--base",
        str(whole_tiny_base),
        "--epsilon",
        "2",
        "--delta",
        "1e-3",
    ]
    assert main([*words, "--steps", "3"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    first = [line.split("  ")[0] for line in lines[2:10]]
    assert first == [
        *("pixels", "stored values", "classes", "unit", "epsilon", "device"),
        *("time here", "forecast"),
    ]
    assert "in 16x16, out 16x16" in lines[2] and "circle" in lines[4]
    assert main([*words, "--steps", "3", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["outlook"]["word"] == forecast.NOTHING
    assert body["public"]["classes"] == "circle, cross, square"
    assert body["public"]["number of units"] == "24"
