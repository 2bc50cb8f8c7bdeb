"""The benchmark of class tokens runs whole on a tiny base and a few digits, and every control is in
it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tokens(monkeypatch):
    """The module `tokens` of the folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("tokens", "methods", "measure")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import tokens

    yield tokens
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_control_is_a_row(tokens, tiny_base):
    said = tokens.arguments(
        ["--quick", "--base", str(tiny_base), "--dimensions", "4", "--lora", "--epsilon", "10"]
    )
    assert (said.n, said.images) == (40, 40)
    rows = {row["row"]: row for row in tokens.measured(said)}
    assert list(rows) == [
        "the private digits themselves",
        "public anchor alone",
        "one image a class",
        "non-private mean",
        "noise only",
        "inversion",
        "DP-SGD on one embedding",
        "DP-LoRA",
    ]
    assert all(row["images"] == 40 and 0 <= row["accuracy"] <= 100 for row in rows.values())
    for name in ("noise only", "inversion", "DP-SGD on one embedding"):
        assert (
            -1 <= rows[name]["cosine"] <= 1
            and rows[name]["sigma"] > 0
            and rows[name]["spent"] <= 10
        )
    assert 0 < rows["inversion"]["expected_cosine"] < 1 and rows["DP-LoRA"]["cosine"] is None
    # What needs no epsilon names none.
    assert (
        rows["non-private mean"]["epsilon"] is None
        and "epsilon" not in rows["the private digits themselves"]
    )


def test_tokens_start_from_public_letters(tokens):
    words = tokens.words("letters")
    assert (
        words["prompt"]["3"] == "a handwritten capital letter {class}" and words["init"]["3"] == "b"
    )
    assert set(words["prompt"]) == set(words["init"]) == set("0123456789")
    assert tokens.arguments([]).n == 500 and tokens.arguments([]).epsilon == "1,10"
