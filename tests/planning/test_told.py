"""What a base is told of a class, and words that its name suggests."""

from __future__ import annotations

import pytest

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.methods.prompts import choose_prompts
from sfumato.planning.prepare import prepare
from sfumato.planning.told import PART, Told, told
from sfumato.planning.warnings import remarks_on

from .test_prepare import RECORDS, records, task

ASKED = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}


@pytest.fixture
def prepared(tiny_base):
    """A plan of these classes on the tiny base."""

    def made(*classes, **more):
        return prepare(records(classes=classes), task(base=str(tiny_base), **(ASKED | more)))

    return made


def test_names_suggest_the_words_in_them_that_the_base_knows(prepared):
    found = prepared("shape_Circles", "shape-zebra", "shape Square2")
    assert told(found) == (
        Told("shape_Circles", "<shape-circles>", "<shape-circles>", None, "circle"),
        Told("shape-zebra", "<shape-zebra>", "<shape-zebra>"),
        Told("shape Square2", "<shape-square2>", "<shape-square2>", None, "square"),
    )
    (remark,) = [one for one in remarks_on(found, RECORDS) if "does not know" in one]
    assert remark.endswith("that the base knows, such as shape_Circles=circle")


def test_words_that_an_owner_gives_are_what_tokens_start_from(prepared):
    found = prepared("zebra", "cross", prompt="a picture of a {class}", init={"zebra": "digit"})
    assert told(found) == (
        Told("zebra", "a picture of a <zebra>", "<zebra>", "digit"),
        Told("cross", "a picture of a cross"),
    )
    assert not [one for one in remarks_on(found, RECORDS) if "all words of" in one]
    found = prepared("zebra", "cross", init={"zebra": "striped digit"})
    (remark,) = [one for one in remarks_on(found, RECORDS) if "all words of" in one]
    assert "'striped digit', from which the token <zebra> starts" in remark


def test_a_name_is_taken_apart_where_people_do_it():
    words = {"digit-0": "digit 0", "TabbyCat": "Tabby Cat", "MRI_knee": "MRI knee", "Ünï": "Ünï"}
    assert {name: " ".join(PART.findall(name)) for name in words} == words


@pytest.mark.parametrize(
    "asked", [{"init": {"zebr": "star"}}, {"prompt": {"cross": "a", "s": "b"}}]
)
def test_words_for_a_class_that_is_not_there_are_refused(tiny_base, asked):
    with pytest.raises(
        SfumatoError, match=r"^--(init zebr|prompt s)=...: no class has this name; `inspect`"
    ):
        choose_prompts(load_base(tiny_base), ("cross",), **asked)
