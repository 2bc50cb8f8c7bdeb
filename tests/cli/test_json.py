"""What a page or a script reads: one JSON object each, and nothing else on standard output."""

from __future__ import annotations

import json

import sfumato
from sfumato.cli import main


def read(capsys, *words) -> dict:
    assert main([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def test_inspect_names_no_file(capsys, tiny_images):
    facts = read(capsys, "inspect", tiny_images, "--json")
    assert facts["n"] == 24 and facts["questions"]["unit"]["choices"]
    assert not any(p.name in json.dumps(facts) for p in tiny_images.rglob("*.png"))


def test_bases_and_methods(capsys):
    found = read(capsys, "bases", "--json")
    assert "glyphs" in found["bases"] and found["bases"]["glyphs"]["says"]
    assert "attention" in found["methods"]


def test_one_base(capsys, tiny_base):
    found, report = read(capsys, "bases", tiny_base, "--json"), sfumato.describe_base(tiny_base)
    assert found["trains"] == report.trains and found["refused"] == report.refused
    assert found["bytes"]["lora"] == report.bytes_for("lora")
    assert found["digest"] == report.info.digest and found["family"] == report.info.family
    for words in (["glyphs", "--copy", "glyphs", "there"], ["--json", "--copy", "glyphs", "there"]):
        assert main(["bases", *words]) == 2
        assert "give it alone" in capsys.readouterr().err


def test_the_ledger_of_some_images(capsys, tiny_images, tiny_base, tmp_path):
    assert main(["ledger", "show", str(tiny_images), "--json"]) == 13  # there is none
    assert "there is no ledger yet" in capsys.readouterr().err
    assert main(["ledger", "show", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "name them" in err and err.count("\n") == 1
    sfumato.ledger(tiny_images, cap=5)
    found = read(capsys, "ledger", "show", tiny_images, "--json")
    assert (found["runs"], found["epsilon"], found["cap"]) == (0, 0.0, 5.0)
    assert found["delta"] is None


def test_a_plan_with_odds(capsys, tiny_images, tiny_base):
    words = ["plan", tiny_images, "--epsilon", 8, "--delta", 1e-3, "--base", tiny_base]
    words += ["--steps", 3, "--expected-batch-size", 8, "--yes-public"]
    found = read(capsys, *words, "--odds", "--json")
    assert set(found["odds"]) == {"0.001", "0.01", "0.1"} and found["refused"] is None
    assert all(float(rate) <= share <= 1 for rate, share in found["odds"].items())
    assert "odds" not in read(capsys, *words, "--json")
    assert main([str(word) for word in [*words, "--odds"]]) == 0
    assert "accused wrongly" in capsys.readouterr().out
