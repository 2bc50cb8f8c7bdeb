"""`inspect` says which layout it read, and describes what `adapt` would refuse."""

from __future__ import annotations

import pytest
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.errors import DataError, SfumatoError


def picture(path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (16, 16), shade).save(path)


@pytest.fixture
def flat(tmp_path):
    for shade in range(12):
        picture(tmp_path / "art" / f"{shade}.png", 20 * shade)
    return tmp_path / "art"


def test_class_folders_and_folders_that_may_be_people(tmp_path):
    for folder in range(5):
        for shade in range(11):
            picture(tmp_path / "classes" / f"c{folder}" / f"{shade}.png", 50 * folder + shade)
        picture(tmp_path / "people" / f"p{folder}" / "0.png", 50 * folder)
    layout, otherwise = sfumato.inspect(tmp_path / "classes").layout
    assert otherwise.startswith("to read it otherwise: --layout inner (each folder that holds")
    assert layout == "layout: class folders (5), each folder name is a class"
    _, hint, _ = sfumato.inspect(tmp_path / "people").layout
    assert "a person or a patient" in hint and "--unit" in hint


def test_a_flat_folder_is_described_and_has_a_standing(flat, capsys, ledger_of_the_test):
    found = sfumato.inspect(flat)
    assert found.n == 12 and found.class_counts == {"image": 12} and not found.warnings
    assert found.layout[0].startswith("layout: a flat folder of images, one class")
    assert main(["ledger", "cap", str(flat), "2"]) == 0
    assert main(["ledger", "show", str(flat)]) == 0
    assert capsys.readouterr().out.count("the cap is 2") == 2


def test_a_table_names_the_columns_that_nothing_uses(flat):
    rows = [f"{name}.png,benign,P{name // 3}" for name in range(12)]
    (flat / "metadata.csv").write_text("\n".join(["file_name,diagnosis,patient", *rows]))
    found = sfumato.inspect(flat)  # no label column and no class folder: `adapt` refuses it
    assert found.class_counts == {"image": 12}
    assert "has no column label or class" in found.warnings[0]
    found = sfumato.inspect(flat, labels="diagnosis")
    assert found.class_counts == {"benign": 12} and not found.warnings
    assert found.layout == (
        "layout: a table (metadata.csv or .jsonl) with its images; classes from the column"
        " 'diagnosis'",
        "columns not used: 'patient' (see --labels, --unit, --caption-column)",
        "seen: a table (metadata.csv) names the images",
        "to read it otherwise: --layout folders (each folder at the top is a class), flat (no"
        " classes)",
    )


@pytest.mark.parametrize("trouble", ["loose images", "empty class", "many bad"])
def test_what_adapt_refuses_is_described_with_the_reason(flat, trouble):
    for shade in range(12):
        picture(flat / "a" / f"{shade}.png", shade)
    if trouble != "loose images":
        for path in flat.glob("*.png"):
            path.unlink()
    if trouble == "empty class":
        (flat / "b").mkdir()
    if trouble == "many bad":
        for name in range(6):
            (flat / "a" / f"bad{name}.png").write_bytes(b"no image")
    with pytest.raises(DataError) as refused:
        sfumato.plan(flat, epsilon=1.0, base="icons")
    found = sfumato.inspect(flat)
    assert found.usable >= 12
    why = str(refused.value).removesuffix(" (`sfumato inspect` names them)")
    assert found.warnings[0] == f"`adapt` will refuse this folder as it is: {why}"


def test_only_what_is_not_there_is_refused(tmp_path):
    assert "holds no images" in (sfumato.inspect(tmp_path).refused or "")
    picture(tmp_path / "a" / "0.png", 3)
    assert "no column 'x' for --unit" in (sfumato.inspect(tmp_path, unit="x").refused or "")
    with pytest.raises(SfumatoError, match="no such file or folder"):
        sfumato.inspect(tmp_path / "b")
