"""Options are declared once: flags, keywords of Python, types and help follow from the classes."""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import FrozenInstanceError, fields

import pytest
import typer

import sfumato
from sfumato import verbs
from sfumato.cli.app import command
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS
from sfumato.options import (
    Execution,
    Judging,
    Machine,
    Matching,
    Performance,
    Privacy,
    Prompting,
    Reading,
    Recipe,
    Sampling,
    Schedule,
    Selecting,
    Sharing,
    Signing,
    declared,
)
from sfumato.planning.task import GROUPS
from sfumato.verbs import keywords

CLASSES = (
    *GROUPS.values(),
    Sampling,
    Judging,
    Matching,
    Selecting,
    Signing,
    Sharing,
    *METHODS.values(),
)
TYPED = {
    keywords.ReadingFields: (Reading,),
    keywords.PrivacyFields: (Privacy,),
    keywords.ScheduleFields: (Schedule,),
    keywords.PromptingFields: (Prompting,),
    keywords.RecipeFields: (Recipe,),
    keywords.PerformanceFields: (Performance,),
    keywords.ExecutionFields: (Execution,),
    keywords.MachineFields: (Machine,),
    keywords.SamplingFields: (Sampling,),
    keywords.JudgingFields: (Judging,),
    keywords.MatchingFields: (Matching,),
    keywords.SelectingFields: (Selecting,),
    keywords.SharingFields: (Sharing,),
    keywords.SigningFields: (Signing,),
    keywords.MethodFields: tuple(METHODS.values()),
}


@pytest.mark.parametrize("typed", TYPED, ids=lambda typed: typed.__name__)
def test_the_types_that_a_checker_reads_are_those_of_the_classes(typed):
    said, right = typing.get_type_hints(typed), {}
    for kind in TYPED[typed]:
        hints = typing.get_type_hints(kind)
        for field in fields(kind):
            assert right.setdefault(field.name, hints[field.name]) == hints[field.name], field.name
    assert said == right


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_option_has_a_help_that_is_a_sentence(kind):
    for one in declared(kind):
        assert one.help.endswith("."), (one.name, one.help)
        assert not one.choices or one.default in (None, *one.choices)
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        made = kind()
        setattr(made, next(iter(declared(kind))).name if declared(kind) else "x", 1)


@pytest.mark.parametrize("verb", ["plan", "adapt", "resume", "inspect"])
def test_help_shows_every_option_with_its_type_and_default(verb):
    function = getattr(sfumato, verb)
    shown, text = inspect.signature(function), inspect.getdoc(function)
    resumed = ["reading", "execution", "machine"]
    groups = {"inspect": ["reading"], "resume": resumed}.get(verb, list(GROUPS))
    for group in groups:
        if verb == "plan" and group == "execution":
            continue
        assert group in shown.parameters
        for one in declared(GROUPS[group]):
            assert shown.parameters[one.name].default == one.default
            assert f"{one.name} ({one.type}): {one.line}" in " ".join(text.split())
    assert "Args:" in text and "Raises:" in text
    if verb in ("plan", "adapt"):
        assert shown.parameters["rank"].default is None  # methods differ
        assert "rank (int): Rank of the adapters (default 8)." in text
        assert "SfumatoError unless at least 1." in text
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.parameters.values())


def flags_of(verb: str) -> dict[str, typing.Any]:
    group = command()
    context = typer.Context(group)
    return {p.name: p for p in group.get_command(context, verb).params}


@pytest.mark.parametrize("verb", ["plan", "adapt"])
def test_the_command_line_has_a_flag_for_every_option_with_its_help(verb):
    flags = flags_of(verb)
    for kind in (*GROUPS.values(), *METHODS.values()):
        if verb == "plan" and kind is Execution:
            continue
        for one in declared(kind):
            flag = flags[one.name]
            assert one.flag in flag.opts
            core = one.help[:-1]
            assert core in flag.help, (core, flag.help)


def test_a_default_is_said_once_and_in_words():
    flags = flags_of("adapt")
    assert "(default zero-out)" in flags["relation"].help
    assert "(default auto)" in flags["precision"].help
    assert re.search(r"lora 8; saliency 4; loda 4", flags["rank"].help)


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [
        (Privacy, {"relation": "add-remove"}, "--relation add-remove would keep n secret"),
        (Privacy, {"relation": "wishful"}, "--relation wishful: choose zero-out, replace-one"),
        (Privacy, {"epsilon": -1.0}, "--epsilon -1: must be above 0"),
        (Privacy, {"epsilon": "strong"}, "--epsilon 'strong': must be a number"),
        (Schedule, {"steps": 0}, "--steps 0: must be at least 1"),
        (Schedule, {"steps": 1.5}, "--steps 1.5: must be an integer"),
        (Schedule, {"steps": True}, "--steps True: must be an integer"),
        (Recipe, {"caption_dropout": 2}, "--caption-dropout 2: must be at most 1"),
        (Performance, {"precision": "half"}, "--mixed-precision half: choose auto, no, bf16"),
        (Sampling, {"steps": 0}, "--steps 0: must be at least 1"),
        (Sampling, {"guidance_scale": float("nan")}, "--guidance-scale nan"),
        (METHODS["lora"], {"rank": 0}, "--rank 0: must be at least 1"),
        (METHODS["lora"], {"adapter_init": "x"}, "--adapter-init x: choose gaussian, orthonormal"),
    ],
)
def test_what_is_not_accepted_is_refused_by_its_flag(kind, said, words):
    with pytest.raises(SfumatoError) as found:
        kind(**said)
    assert words in str(found.value) and "\n" not in str(found.value)
    assert found.value.exit_code == 2


CONTRADICTIONS = [
    ({"privacy": Privacy(epsilon=1.0), "epsilon": 2.0}, "epsilon is given twice"),
    ({"method": METHODS["lora"](rank=2), "rank": 4}, "rank is given twice"),
    ({"method": "full", "rank": 4}, "--rank does not go with --method full"),
    ({"method": "lora", "dimensions": 4}, "--dimensions does not go with --method lora"),
    ({"method": "magic"}, "--method magic: choose attention, lora"),
    ({"epsilom": 1.0}, "there is no option 'epsilom' here: did you mean 'epsilon'?"),
    ({"recipe": Performance()}, "recipe takes a Recipe object"),
    ({}, "--epsilon is required"),
]


@pytest.mark.parametrize(("said", "words"), CONTRADICTIONS)
@pytest.mark.parametrize("verb", ["plan", "adapt"])
def test_contradictions_are_refused_before_anything_is_opened(
    verb, said, words, tmp_path, ledger_of_the_test
):
    more = {"output": tmp_path / "run"} if verb == "adapt" else {}
    with pytest.raises(SfumatoError, match=re.escape(words)):
        getattr(verbs, verb)(tmp_path / "not there", **more, **{"base": "icons"} | said)
    assert not (tmp_path / "run").exists() and not ledger_of_the_test.exists()


@pytest.mark.parametrize(
    "said",
    [
        {"epsilon": 1.0},
        {"method": "lora"},
        {"base": "letters"},
        {"seed": 1},
        {"rank": 2},
        {"privacy": Privacy(epsilon=1.0)},
        {"performance": Performance()},
        {"steps": 3},
    ],
)
def test_a_resumed_run_takes_no_option_of_a_plan(said, tmp_path):
    with pytest.raises(SfumatoError, match=r"--[a-z]+ does not go with --resume"):
        verbs.adapt(tmp_path / "not there", output=tmp_path / "run", resume=True, **said)
    name = next(iter(said))
    with pytest.raises((SfumatoError, TypeError), match=name):
        verbs.resume(tmp_path / "not there", tmp_path / "run", **said)


def test_a_new_attempt_continues_something(tmp_path):
    with pytest.raises(SfumatoError, match="--new-attempt requires --resume"):
        verbs.adapt(tmp_path, output=tmp_path / "run", epsilon=1.0, new_attempt=True)


def test_a_rate_of_zero_is_accepted_for_the_audit_trains_with_it():
    """Check M6 of `sfumato audit` asks whether another recipe is another run."""
    assert Recipe(learning_rate=0.0).learning_rate == 0.0
    with pytest.raises(SfumatoError, match="at least 0"):
        Recipe(learning_rate=-1e-3)
