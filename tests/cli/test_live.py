"""The line that says how far a verb is, by a clock of our own, and what comes after a run."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfumato.cli.adapt import next_commands
from sfumato.cli.live import LiveLine
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS
from sfumato.options import Schedule, parse
from sfumato.options.progress import Counted, listening, tell


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_counted_stage_has_a_time_left_at_its_own_pace(clock, capsys):
    line = LiveLine(clock=clock)
    line.stage("encoding the images")
    clock.now += 50  # before counting began: says nothing of the pace
    line.stage(Counted("encoding the images", 0, 1000))
    assert line.line() == "encoding the images: 0 of 1,000"
    clock.now += 10
    line.stage(Counted("encoding the images", 200, 1000))
    assert line.line() == "encoding the images: 200 of 1,000, about 40 s left"
    clock.now += 30  # nothing was told meanwhile: the pace known so far is the slower one
    assert line.line() == "encoding the images: 200 of 1,000, about 3 min left"
    line.stage(Counted("encoding the images", 1000, 1000))
    assert line.line() == "encoding the images: 1,000 of 1,000"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "encoding the images ..." and said[-1] == line.line()


def test_what_was_done_before_counting_does_not_flatter_the_pace(clock):
    """A resumed inversion begins in the middle."""
    line = LiveLine(clock=clock)
    line.stage(Counted("inverting", 0.5, 1.0))
    clock.now += 10
    line.stage(Counted("inverting", 0.6, 1.0))
    assert line.line() == "inverting: 60%, about 40 s left"


def test_a_new_stage_has_a_pace_of_its_own(clock):
    line = LiveLine(clock=clock)
    line.stage(Counted("reading", 1, 100))
    clock.now += 1000
    line.stage(Counted("encoding", 1, 100))
    clock.now += 1
    line.stage(Counted("encoding", 3, 100))
    assert line.line() == "encoding: 3 of 100, about 48 s left"


def test_silence_ends_after_ten_seconds_off_a_terminal(clock, capsys):
    line = LiveLine(clock=clock)
    line.stage("composing the plan and its noise")
    for _ in range(35):
        clock.now += 1
        line.beat()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "composing the plan and its noise ...",
        *(f"composing the plan and its noise ... 0:{s} so far" for s in (10, 20, 30)),
    ]
    line.say("step 3/90")
    for _ in range(30):  # a line that says nothing new is not said again
        clock.now += 1
        line.beat()
    assert capsys.readouterr().err == "step 3/90\n"


def test_the_beating_ends_with_the_verb(capsys):
    before = threading.active_count()
    with LiveLine() as line:
        line.stage("a")
        assert threading.active_count() == before + 1
    assert line._ended.is_set()
    line.last = -100.0
    line.beat()
    assert capsys.readouterr().err == "a ...\n"


def test_notes_leave_the_stage_as_it_is(clock, capsys):
    line = LiveLine(clock=clock)
    line.stage("training")
    clock.now += 20
    line.stage("note: samples of step 50: run/samples/step-000050.png")
    assert line.line() == "training ... 0:20 so far"
    assert "samples of step 50" in capsys.readouterr().err


def test_rooms_without_a_callback_reach_whoever_listens():
    heard = []
    tell("reading", 1, 2)  # nobody listens
    with listening(heard.append):
        tell("reading", 5, 4)  # never more than all
        tell("reading", 0, 0)  # nothing to read
    tell("reading", 2, 2)
    assert heard == ["reading: 4 of 4"] and heard[0].total == 4


# Times.


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("20min", 1200),
        ("20 minutes", 1200),
        ("1h", 3600),
        ("1h30min", 5400),
        ("1.5 h", 5400),
        ("90s", 90),
        (600, 600),
    ],
)
def test_times_are_read_with_their_unit(said, seconds):
    assert Schedule(time=said).time == seconds


@pytest.mark.parametrize(
    "said", ["20", "", "soon", "-5min", "0min", 0, -1, float("nan"), "20 miles"]
)
def test_a_time_without_sense_is_refused(said):
    with pytest.raises(SfumatoError, match="--time .*20min"):
        parse.duration(said)


def test_a_time_and_steps_contradict_each_other():
    with pytest.raises(SfumatoError, match="--time or --steps, not both"):
        Schedule(time="5min", steps=3)


# Afterwards.


@pytest.mark.parametrize(
    ("method", "units", "first", "count"),
    [
        ("inversion", 60, "export", 100),
        ("embedding", 60000, "export", 100),
        ("attention", 348, "synthesize", 300),
        ("lora", 9000, "synthesize", 9000),
        ("full", 60000, "synthesize", 10000),
        ("saliency", 12, "synthesize", 100),
    ],
)
def test_the_next_command_is_the_methods_own(method, units, first, count):
    plan = SimpleNamespace(method=method, n_units=units, voting=None)
    lines = next_commands(plan, Path("run"))
    assert lines[0].startswith(f"next: sfumato {first} run ")
    assert sum(f"-n {count} -o release" in line for line in lines) == 1
    assert sum("sfumato export run -o" in line for line in lines) == 1
    assert METHODS[method].hands_over in ("token", "LoRA", "model")


@pytest.mark.parametrize("tuned", [False, True])
def test_export_comes_next_after_an_evolution_that_trained_a_model(tmp_path, tuned):
    plan = SimpleNamespace(method="evolution", n_units=348, voting=SimpleNamespace(candidates=60))
    (tmp_path / "model").mkdir()
    if tuned:
        (tmp_path / "model" / "pytorch_lora_weights.safetensors").touch()
    first, *others = next_commands(plan, tmp_path)
    assert first == f"next: sfumato synthesize {tmp_path} -n 60 -o release"
    export = f"or, for the LoRA itself: sfumato export {tmp_path} -o lora"
    assert others[:-1] == ([export] if tuned else []) and "audit" in others[-1]


def test_the_next_command_says_nothing_again_that_the_config_says():
    plan = SimpleNamespace(method="lora", n_units=348, voting=None)
    said = {"run": "run", "release": "out", "number": 12, "model": "model"}
    lines = next_commands(plan, Path("run"), said, " --config ../x.toml")
    assert lines[0] == "next: sfumato synthesize --config ../x.toml"
    assert "sfumato export --config ../x.toml" in lines[1] and " -o" not in lines[1]
    assert "sfumato audit --config ../x.toml (" in lines[2]
    some = next_commands(plan, Path("run"), {"run": "run", "number": 12}, "")
    assert some[0] == "next: sfumato synthesize -o release"
    other = next_commands(plan, Path("elsewhere"), said, "")
    assert other[0] == "next: sfumato synthesize elsewhere -n 300 -o release"
