"""A diagnosis as facts for a page: no file is named, and no class that may be a person."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from sfumato import inspect
from sfumato.options import Reading
from sfumato.verbs.diagnosed import as_facts

MARK = "qqmarkerqq"


def folder(place, labels, each=6):
    for label in labels:
        (place / label).mkdir(parents=True)
        for number in range(each):
            tone = 20 * number + 3 * len(label)
            Image.new("L", (16, 16), tone).save(place / label / f"{MARK}-{number}.png")
        (place / label / f"{MARK}-bad.png").write_bytes(MARK.encode())
    return place


def test_no_file_is_named(tmp_path):
    facts = as_facts(inspect(folder(tmp_path / "images", ("round", "square"))), Reading())
    text = json.dumps(facts)
    assert MARK not in text and "round" in text and str(tmp_path) not in text
    assert facts["n"] == 14 and facts["usable"] == 12 and sum(n for n, _ in facts["bad"].values())


def test_class_names_that_look_like_people_are_counted(tmp_path):
    people = ("Mueller, Anna", "Okafor, James", "Rossi, Paula")
    found = inspect(folder(tmp_path / "images", people))
    facts = as_facts(found, Reading())
    text = json.dumps(facts)
    assert facts["people"] and facts["n_classes"] + len(found.few) == 3
    assert not any(word in text for name in people for word in name.split(", "))
    assert facts["stops"], "and it is said that a plan stops"


@pytest.mark.parametrize("form", ["table", "folder"])
def test_the_questions_are_those_of_start(tmp_path, form):
    place = folder(tmp_path / "images", ("round", "square"))
    if form == "table":
        found = [p.relative_to(place) for p in place.rglob("*-?.png")]
        rows = [f"{p},{p.parent.name},{p.stem[-1]}" for p in found]
        text = "file_name,label,patient\n" + "\n".join(sorted(rows)) + "\n"
        (place / "metadata.csv").write_text(text)
    asked = as_facts(inspect(place), Reading())["questions"]
    names = [name for name, _ in asked["unit"]["choices"]]
    assert names == (["image", "patient"] if form == "table" else ["image"])
    assert [name for name, _ in asked["what"]["choices"]] == ["classes", "style"]
