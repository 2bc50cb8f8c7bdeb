"""Files of public prompts: what they mean, and what is refused in one line."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.options import Sampling
from sfumato.synthesis.dataset import Classes, class_of_each
from sfumato.synthesis.prompts import read_prompts
from sfumato.synthesis.sampler import Sampler, pictures

CLASSES = ("circle", "cross")


@pytest.fixture(scope="module")
def base(whole_tiny_base):
    return load_base(whole_tiny_base)


@pytest.fixture
def read(base, tmp_path):
    def of(content, name="prompts.csv"):
        place = tmp_path / name
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_prompts(place, CLASSES).on(base, CLASSES, CLASSES)

    return of


def test_csv_and_json_lines_mean_the_same(read):
    text = '\ufeffprompt,label,count\na circle,circle,3\n"a cross, small",,\n,cross,2\n'
    table = read(text)
    rows = [
        {"prompt": "a circle", "label": "circle", "count": 3},
        {"prompt": "a cross, small"},
        {"prompt": "", "label": "cross", "count": 2},
    ]
    lines = read("\n".join(map(json.dumps, rows)) + "\n\n", "prompts.jsonl")
    for found in (table, lines):
        assert found.texts == ("a circle", "a cross, small", "")
        assert found.labels == ("circle", None, "cross") and found.counts == (3, 1, 2)
        assert found.n == 6
    assert table.sha256 == hashlib.sha256(text.encode()).hexdigest() != lines.sha256


def test_a_prompt_without_a_label_is_of_the_only_class_or_of_none(read):
    found = read("prompt,label\nring,\ncross,cross\n")
    assert found.names(CLASSES) == ["circle", "cross", "unlabelled"]
    assert found.numbers(CLASSES) == [2, 1]
    assert found.names(["circle"]) == ["circle"] or found.numbers(["cross"]) == [0, 0]
    alone = read("prompt\nring\n")
    assert alone.names(["cross"]) == ["cross"] and alone.numbers(["cross"]) == [0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "its first line names other columns"),
        ("prompt,label\n", "it holds no prompt"),
        ("text,label\na,circle\n", "its first line names other columns"),
        ("prompt,name\na,circle\n", "its first line names other columns"),
        ("prompt,label\na,ring\n", "row 2: its label is no class of the plan"),
        ("prompt,label\na,circle\nb\n", "row 3: other cells"),
        ("prompt,label\na, b,circle\n", "row 2: other cells"),
        ("prompt,count\na,0\n", "row 2: the count"),
        ("prompt,count\na,-1\n", "row 2: the count"),
        ("prompt,count\na,1.5\n", "row 2: the count"),
        ("prompt,count\na,999999999999\n", "row 2: the count"),
        ('prompt\n"a\nb"\n', "row 2: control characters"),
        ("prompt\na\x1b[2J\n", "row 2: control characters"),
        ("prompt\n" + "a " * 50, "longer than the base's 8 tokens"),
        (b"prompt\n\xff\xfe\n", "not UTF-8"),
        ('prompt\n"a\n', "not a readable CSV"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(read, content, said):
    with pytest.raises(SfumatoError, match=said) as error:
        read(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["{", "[]", '{"label": "circle"}', '{"prompt": "a", "x": 1}'])
def test_faulty_json_lines_are_refused(read, line):
    with pytest.raises(SfumatoError, match="row 1: not an object of prompt"):
        read(line, "prompts.jsonl")
    with pytest.raises(SfumatoError, match="row 1: (the prompt is no text|the count)"):
        read('{"prompt": 3}' if line == "{" else '{"prompt": "a", "count": true}', "prompts.jsonl")


def test_other_files_are_refused(read, tmp_path):
    with pytest.raises(SfumatoError, match=r"give a CSV .*\.jsonl"):
        read("a\n", "prompts.txt")
    with pytest.raises(SfumatoError, match="No such file"):
        read_prompts(tmp_path / "none.csv", CLASSES)


def test_a_class_of_the_plan_may_be_named_as_it_is_written(tmp_path):
    """On a base that is told a class; of texts nothing is read otherwise than it stands."""
    base = load_base("none:16x16x3")
    words = ["<circle>", "<cross>"]
    base.add_tokens(words, ["nothing", "nothing"])
    file = tmp_path / "prompts.csv"
    file.write_text('prompt,label\ncircle,circle\n"<circle>",\nnothing,\ncross,\n')
    told = read_prompts(file, CLASSES)
    read = told.on(base, CLASSES, words)
    assert read.texts == ("<circle>", "<circle>", "nothing", "<cross>")
    assert read.labels == told.labels and read.sha256 == told.sha256
    known = load_base("none:16x16x3")
    known.add_tokens([*words, "circle"], ["nothing"] * 3)
    assert told.on(known, CLASSES, words).texts[0] == "circle"  # a class of the base's own
    file.write_text("prompt\nstar\n")
    with pytest.raises(SfumatoError, match="the base has no class 'star'"):
        read_prompts(file, CLASSES).on(base, CLASSES, words)


def test_every_prompt_is_drawn_as_often_as_it_was_asked_for(read):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, 37)
    assert (np.bincount(class_of_each(int(counts.sum()), counts)) == counts).all()
    found = read("prompt,label,count\na,circle,2\nb,cross,1\nc,circle,1\n")
    classes = Classes.of_file(CLASSES, found, {})
    assert list(classes.names) == list(CLASSES) and list(classes.of) == [0, 1, 0]


def test_many_prompts_are_read_piece_by_piece_and_draw_the_same(base, monkeypatch):
    """As pictures of few prompts, which are embedded together."""
    words = ["circle", "cross", "square", "small letter", "digit seven"]
    many = [f"{words[i % 5]} {chr(97 + i // 5 % 26)}" for i in range(130)]
    which = np.array([3, 77, 129, 3, 64])
    sampling = Sampling(steps=2, guidance_scale=2.0)
    asked, whole = [], base.condition
    monkeypatch.setattr(base, "condition", lambda texts: asked.append(len(texts)) or whole(texts))
    found = np.concatenate([p for _, p in pictures(base, many, which, np.arange(5), sampling)])
    assert max(asked) <= 64 and sum(asked) < 10
    few = [many[i] for i in which]
    right = Sampler(base, few, sampling).draw(np.arange(5), np.arange(5))
    assert np.abs(found.astype(int) - right.astype(int)).max() <= 1
