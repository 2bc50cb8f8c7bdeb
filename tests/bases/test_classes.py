"""Classes as words of a base: names, rows, new classes, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.bases import load_base
from sfumato.bases.classes import ClassTable, RowEncoder, read_names
from sfumato.errors import ModelError, SfumatoError
from sfumato.methods import METHODS, Full, Given, Prompts
from sfumato.methods.prompts import choose_prompts
from tests.bases import tiny_pipelines
from tests.bases.family_checks import adapt, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipelines.ddpm_classes(tmp_path_factory.mktemp("pipelines") / "classes")


def table() -> ClassTable:
    rows = torch.arange(12.0).view(4, 3)
    return ClassTable(rows, [("0", "zero"), ("O", "capital o"), ("o",), ()], 3)


def test_a_class_is_found_by_any_of_its_names_and_by_the_exact_one_first():
    held = table()
    found = [held.find(name) for name in ("zero", "Zero", "O", "o", "CAPITAL O", "x", "")]
    assert found == [0, 0, 1, 2, 1, None, None]
    assert torch.equal(held.told(["o", ""]), held.rows[[2, 3]])
    held.null = None
    assert torch.equal(held.told([""])[0], held.rows.mean(0))
    with pytest.raises(SfumatoError, match=r"no class 'x' \(0, O, o\): a prompt is a class's name"):
        held.told(["x"])


def test_a_new_class_keeps_the_rows_before_it():
    held = table()
    assert held.add("<x>", torch.ones(1, 3)) == 4 and held.null == 3
    assert torch.equal(held.rows[:4], table().rows) and held.written()["3"] == ""
    for word in ("<x>", "zero", "a,b"):
        with pytest.raises(SfumatoError):
            held.add(word, torch.ones(3))


def test_a_token_of_every_class_that_has_one_trains_and_no_other_row():
    held = table()
    encoder = RowEncoder(held, ["zero", "o", "0"], [0, None, 0])
    assert encoder.tokens.weight.shape == (1, 3)  # two classes of one row share it
    with torch.no_grad():
        encoder.tokens.weight += 100
    told = encoder(torch.tensor([0, 1, 2]))
    assert torch.equal(told, held.rows[[0, 2, 0]] + torch.tensor([[100.0], [0.0], [100.0]]))
    told.sum().backward()
    assert encoder.tokens.weight.grad is not None


@pytest.mark.parametrize(
    "names",
    [
        ["cat"],
        {"0": 1},
        {"9": "cat"},
        {"cat": "0"},
        {"0": "", "1": ""},
        {"0": "cat\n"},
        {"0": " , "},
    ],
)
def test_names_that_name_no_rows_are_refused(tmp_path, names):
    (tmp_path / "model_index.json").write_text(json.dumps({"id2label": names}))
    if names == {"0": "cat\n"}:  # space around a name is no part of it
        assert read_names(tmp_path / "model_index.json", 2, None)[0][0] == ("cat",)
        return
    with pytest.raises(ModelError, match="id2label in model_index.json does not name 2 rows"):
        read_names(tmp_path / "model_index.json", 2, None)


def test_rows_without_names_are_numbered_and_a_name_given_twice_is_the_first_rows(tmp_path):
    (tmp_path / "model_index.json").write_text('{"id2label": {"1": "crane", "2": "crane"}}')
    names, null = read_names(tmp_path / "model_index.json", 4, 3)
    assert (names, null) == ([("class0",), ("crane",), ("class2",), ()], 3)


def test_names_of_private_classes_find_the_bases_and_others_get_a_token(folder):
    base = load_base(folder)
    prompts = choose_prompts(base, ["Ring", "great star", "great lemon"])
    assert prompts.prompts == ("Ring", "great star", "<great-lemon>")
    assert prompts.tokens == {"<great-lemon>": None}
    from_star = choose_prompts(base, ["lemon"], init={"lemon": "great star"})
    assert from_star.tokens == {"<lemon>": "great star"}
    given = choose_prompts(base, ["a", "b"], prompt={"a": "circle", "b": "cross"})
    assert given.prompts == ("circle", "cross") and not given.tokens


def test_all_weights_train_with_the_rows_in_use_and_no_others(folder, tmp_path):
    base = load_base(folder)
    before = base.table.rows.clone()
    made = Full().apply(base, Given(Prompts(("cross", "great star"))))
    assert made.trainable["tokens.weight"].shape == (2, 32)
    with torch.no_grad():
        made.trainable["tokens.weight"] += 1
    assert made.condition is not None
    told = made.condition(torch.tensor([0, 1, -1]))
    assert torch.allclose(told, before[[1, 3, 4]] + torch.tensor([[1.0], [1.0], [0.0]]))
    made.save(tmp_path / "saved")
    after = load_base(tmp_path / "saved")
    moved = (after.table.rows - before).mean(1).round(decimals=2)
    assert moved.tolist() == [0, 1, 0, 1, 0] and after.table.names == base.table.names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "a picture of {class}"], "no class 'a picture of circle'"),
        (["--init", "circle=banana"], "no class 'banana'"),
        (["--method", "lora"], "no file format for adapters"),
        (["--method", "loda"], "no file format for adapters"),
        (["--method", "saliency"], "no file format for adapters"),
        (["--method", "inversion", "--num-vectors", "2"], "one vector"),
    ],
)
def test_what_such_a_base_cannot_do_is_one_line_before_any_charge(
    folder, tiny_images, tmp_path, capsys, words, said
):
    line = refused(folder, tiny_images, tmp_path / "run", *words, capsys=capsys)
    assert said in line and line[0] in "12", line


@pytest.mark.slow
@pytest.mark.parametrize("method", ["embedding", "inversion"])
def test_tokens_alone_are_rows_of_new_classes(folder, tiny_images, tmp_path, method):
    run = adapt(folder, tiny_images, tmp_path / "run", method)
    out = sfumato.synthesize(run, 3, tmp_path / "release", sampling=sfumato.Sampling(steps=2))
    assert len(list(out.rglob("*.png"))) >= 3
    assert {"circle", "cross"} & set(run.plan.classes) and METHODS[method].learns_tokens


@pytest.mark.slow
# not with a codebook: a rounding may choose another entry
@pytest.mark.parametrize("kind", ["ddpm_classes", "dit"])
def test_the_card_of_an_export_draws_as_sfumato_did(kind, tiny_images, tmp_path):
    """Its program, run as it stands, gives the picture that it shows."""
    base = tiny_pipelines.PIPELINES[kind](tmp_path / "base")
    run = adapt(base, tiny_images, tmp_path / "run", "attention", "--init", "circle=cross")
    export = sfumato.export(run, tmp_path / "export")
    sfumato.release(export)
    assert sfumato.verify(export).ok
    claim = json.loads((export / "privacy.json").read_text())
    assert list(claim["public_facts"]["token_starts"].values()) == ["cross"]
    assert "the words that tokens start from" in (export / "PRIVACY.md").read_text()
    card = (export / "README.md").read_text()
    program = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    program = program.replace("path/to/this/folder", str(export))
    found: dict[str, Any] = {}
    exec(program.replace('image.save("picture.png")', ""), found)
    drawn = np.asarray(found["image"].convert("RGB"), float)
    shown = re.search(r"# draws (\S+) again", program)
    assert shown, program
    kept = np.asarray(Image.open(export / shown[1]).convert("RGB"), float)
    assert np.abs(drawn - kept).max() <= 2 and drawn.std() > 3
