"""Every option of every class refuses every wrong type and value in one line, and takes numpy."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.cli import main
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS
from sfumato.options import Judging, Matching, Sampling, Selecting, Sharing, Signing, declared
from sfumato.options.kinds import WIDEST, Unfit, fitted, shown
from sfumato.planning.task import GROUPS

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
FIELDS = [(kind, one) for kind in CLASSES for one in declared(kind)]
NAMES = [f"{kind.__name__}.{one.name}" for kind, one in FIELDS]
PIXELS = np.full((3, 3), 77, np.uint8)
# wrong for whatever an option is
NEVER = (b"x", PIXELS, object(), {1, 2}, [None], {"a": None}, lambda: None, "", [], {}, "\0")
NUMBERS = (True, "4", [4], np.bool_(True), float("nan"), np.float32("inf"), -float("inf"))
HUGE = (10**400, 2**70, -(2**70))
WRONG = {
    int: (*NEVER, *NUMBERS, *HUGE, 1.5, np.float64(2.0), complex(1)),
    float: (*NEVER, *NUMBERS, 10**400, complex(1)),
    bool: (*NEVER, 1, 0, "yes", "False", np.int64(1), "no"),
    str: (*NEVER, 3, True, ["a"], Path("a"), "  ", "\ud800", np.array(["a"])),
    Sequence: (*NEVER, "a,b", 3, {"a": "b"}, [b"a"], ["a", 3], [""], iter("ab")),
    Mapping: (*NEVER, 3, ["a"], {"a": 3}, {3: "a"}, {"a": ""}, [("a", "b")]),
    tuple: (*NEVER, 3, "0/4", (1,), (1, 2, 3), (0.5, 2), (4, 4), (-1, 4), (0, 0), (True, 2)),
}


def wrong_for(one) -> list[Any]:
    """What no value of the option may be; values that one of its kinds takes are left out."""
    if one.choices:
        return [*NEVER, 3, True, "wishful", str(one.choices[0]).upper() + "x", list(one.choices)]
    parts = typing.get_args(one.kind) if not typing.get_origin(one.kind) else ()
    whole = typing.get_origin(one.kind)
    if whole in (Sequence, Mapping, tuple):
        return list(WRONG[whole])
    if not parts and isinstance(one.kind, type):
        # a place on disk may come as a Path
        wrong = WRONG[one.kind]
        return [w for w in wrong if not (one.path and isinstance(w, Path))]
    return [*NEVER, 2.5j]  # of several kinds


@pytest.mark.parametrize(("kind", "one"), FIELDS, ids=NAMES)
def test_wrong_types_and_values_are_refused_in_one_line_by_flag_and_rule(kind, one):
    wrong = wrong_for(one) + ([None] if not one.optional else [])
    for limit in (one.above, None if one.least is None else one.least - 1):
        wrong += [] if limit is None else [limit, np.float64(limit)]
    wrong += [] if one.most is None else [one.most + 1]
    for value in wrong:
        with pytest.raises(SfumatoError) as found:
            kind(**{one.name: value})
        said = str(found.value)
        assert said.startswith(one.flag) and "\n" not in said and len(said) < 300, (value, said)
        assert "must" in said or "choose" in said or "is empty" in said or "write" in said, said
        assert "77" not in said  # an array may hold pixels
        assert found.value.exit_code == 2


def test_that_is_more_than_forty_bad_inputs_and_every_kind_is_among_them():
    assert sum(len(wrong_for(one)) for _, one in FIELDS) > 700
    kinds = {one.kind for _, one in FIELDS if isinstance(one.kind, type)}
    assert kinds <= set(WRONG)


def right_for(one) -> list[tuple[Any, Any]]:
    """(as numpy or torch has it, as it is typed) for one option."""
    if one.kind is int:
        n = max(2, int(one.least or 0) + 1)
        return [(np.int32(n), n), (np.uint8(min(n, 255)), min(n, 255)), (torch.tensor(n), n)]
    if one.kind is float:
        return [(np.float64(0.5), 0.5), (np.array(0.5), 0.5), (np.int64(1), 1.0), (1, 1.0)]
    if one.kind is bool:
        return [(np.bool_(True), True), (np.bool_(False), False)]
    if one.kind is str:
        return [(np.str_("a"), "a")]
    if one.choices:
        return [(np.str_(choice), choice) for choice in one.choices]
    if one.name == "classifiers":
        return [(np.array(["cnn"]), ("cnn",)), (["cnn"], ("cnn",))]
    if one.name == "buckets":
        return [(np.array(["8x16"]), ("8x16",)), (["8x8"], ("8x8",))]
    if typing.get_origin(one.kind) is Sequence:
        return [(np.array(["a", "b"]), ("a", "b")), (["a"], ("a",))]
    if one.name == "shard":
        return [(np.array([1, 4]), (1, 4)), ([np.int64(0), 2], (0, 2))]
    if one.name == "seeds":
        return [(np.array([3, 4]), (3, 4)), (np.int64(2), 2)]
    if one.name == "keep":
        return [(np.int64(3), 3), (np.float32(0.5), 0.5)]
    return []


@pytest.mark.parametrize(("kind", "one"), FIELDS, ids=NAMES)
def test_scalars_of_numpy_and_torch_are_kept_as_plain_python(kind, one):
    for given, plain in right_for(one):
        found = getattr(kind(**{one.name: given}), one.name)
        assert found == plain and type(found) is type(plain), (given, found)
        assert kind(**{one.name: given}) == kind(**{one.name: plain})
        as_json = json.dumps(asdict(kind(**{one.name: given})))
        assert as_json == json.dumps(asdict(kind(**{one.name: plain})))


def test_a_whole_number_stays_one_where_a_ratio_would_do():
    keep = METHODS["saliency"](keep=3).keep
    assert keep == 3 and type(keep) is int
    assert fitted(float | int, 2) == 2 and type(fitted(float | int, 2)) is int
    assert fitted(int, WIDEST - 1) == WIDEST - 1
    with pytest.raises(Unfit, match="64 bits"):
        fitted(int, WIDEST)


@pytest.mark.parametrize(
    "value", [PIXELS, [PIXELS], {"a": PIXELS}, object(), [77] * 7, b"\x89PNG", PIXELS.tolist()]
)
def test_a_refused_value_is_not_quoted_where_it_may_hold_pixels(value):
    assert shown(value) == f"(an object of type {type(value).__name__})"
    assert len(shown("x" * 1000)) <= 60 and shown(10**5000) == "(a number of 16610 bits)"


# What every verb takes beside options.

BAD_CALLS = [
    ("plan", {"seed": "3"}, "seed '3': must be an integer"),
    ("plan", {"seed": np.float64(1.0)}, "seed 1.0: must be an integer"),
    ("plan", {"base": b"icons"}, "base (an object of type bytes): must be a path"),
    ("plan", {"base": ""}, "base '': must be a path that is not empty"),
    ("plan", {"method": 3}, "method 3: must be a text, or a Method object"),
    ("plan", {"public_data": 3}, "public_data 3: must be"),
    ("plan", {"ledger": True}, "ledger True: must be a path"),
    ("plan", {"epsilom": 1}, "did you mean 'epsilon'?"),
    ("adapt", {"output": None}, "output None: must be a path"),
    ("adapt", {"output": ""}, "must be a path that is not empty"),
    ("adapt", {"resume": "yes"}, "resume 'yes': must be True or False"),
    ("adapt", {"progress": 3}, "progress 3: must be a function"),
    ("adapt", {"on_stage": "print"}, "on_stage 'print': must be a function"),
    ("adapt", {"confirm": "yes"}, "confirm 'yes': must be a function"),
    ("adapt", {"allow_file_system": 1}, "allow_file_system 1: must be True or False"),
    ("adapt", {"outptu": "x"}, "did you mean 'output'?"),
    ("inspect", {"reading": "x"}, "reading 'x': must be a Reading object"),
    ("inspect", {"clases": ["a"]}, "did you mean 'classes'?"),
    ("ledger", {"cap": "4"}, "cap '4': must be a number"),
    ("ledger", {"cap": float("nan")}, "cap nan: must be a finite number"),
    ("ledger", {"raising": None}, "raising None: must be True or False"),
    ("ledger", {"pth": "x"}, "did you mean 'path'?"),
    ("audit", {"only": "noise"}, "only 'noise': must be a list of texts"),
    ("audit", {"seed": None}, "seed None: must be an integer"),
    ("audit", {"quik": True}, "did you mean 'quick'?"),
    ("verify", {"folder": 3}, "folder 3: must be a path"),
    ("verify", {"ledgr": "x"}, "did you mean 'ledger'?"),
    ("release", {"folder": "x", "title": 3}, "title 3: must be a text"),
    ("release", {"folder": "x", "without_ledger": "no"}, "must be True or False"),
    ("release", {"folder": "x", "public_metrics": "a"}, "public_metrics 'a': must be a list"),
    ("release", {}, "missing a required argument: 'folder'"),
    ("export", {"run": 3, "output": "x"}, "run 3: must be"),
    ("synthesize", {"run": "x", "n": "10", "output": "y"}, "n '10': must be an integer"),
    ("synthesize", {"run": "x", "n": True, "output": "y"}, "n True: must be an integer"),
    ("synthesize", {"run": "x", "n": 1, "output": "y", "class_shares": ["a"]}, "must be a mapping"),
    ("synthesize", {"run": "x", "n": 1, "output": "y", "shard": 3}, "shard 3: must be 2 integers"),
    ("evaluate", {"run": "x", "release": "y", "test": "z", "rows": "synthetic"}, "a list of texts"),
    ("evaluate", {"run": "x", "release": "y", "test": 3}, "test 3: must be"),
    ("evaluate", {"run": "x", "release": "y", "test": "z", "seeds": []}, "--seeds is empty"),
    ("evaluate", {"run": "x", "release": "y", "test": "z", "beside": "w"}, "must be a list"),
    ("select", {"runs": "x", "data": "y", "epsilon": 1}, "runs 'x': must be a list"),
    ("select", {"runs": ["x"], "data": None, "epsilon": 1}, "data None: must be"),
]


@pytest.mark.parametrize(("verb", "said", "words"), BAD_CALLS)
def test_a_verb_refuses_its_own_arguments_before_it_does_anything(
    verb, said, words, tmp_path, monkeypatch, ledger_of_the_test
):
    monkeypatch.chdir(tmp_path)
    needs = {"plan": {"images": "no", "base": "icons", "epsilon": 1.0}, "inspect": {"images": "no"}}
    needs["adapt"] = needs["plan"] | {"output": "run"}
    with pytest.raises(SfumatoError) as found:
        getattr(sfumato, verb)(**needs.get(verb, {}) | said)
    assert words in str(found.value) and "\n" not in str(found.value)
    assert not list(tmp_path.iterdir()) and not ledger_of_the_test.exists()


def flags():
    """(flag, words that it does not take) of every option with a number or a parsed text."""
    for kind in (*GROUPS.values(), *METHODS.values()):
        for one in declared(kind):
            if one.kind in (int, float) or one.parse:
                yield one.flag, ["abc", "nan", "", "-inf"][: 4 if one.kind in (int, float) else 1]


def test_the_command_line_refuses_the_same_and_makes_nothing(
    tmp_path, monkeypatch, capsys, ledger_of_the_test
):
    monkeypatch.chdir(tmp_path)
    free = {"--classes", "--target-modules", "--prompt", "--stand-in"}  # any text is one
    for flag, words in dict(flags()).items():
        for word in words if flag not in free else [""]:
            argv = ["adapt", "not there", "--base", "icons", "--epsilon", "1", "-o", "run"]
            code = main([*argv, f"{flag}={word}"])
            said = capsys.readouterr().err
            assert code in (2, 10) and said.count("\n") == 1, (flag, word, code, said)
            assert "internal error" not in said and flag in said, (flag, word, said)
    assert not list(tmp_path.iterdir()) and not ledger_of_the_test.exists()
