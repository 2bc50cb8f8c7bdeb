"""What was measured on this machine is kept for its user, and measured anew when in doubt."""

from __future__ import annotations

import json
import os

import pytest

from sfumato.compute import remembered as kept
from sfumato.compute.remembered import FILE, remembered

NAMES = ("a", "b")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sfumato"


def ask(*answers):
    """What is remembered, where measurements give `answers`; and how many were made."""
    left = list(answers)
    found = remembered("engine", NAMES, lambda: dict(zip(NAMES, left.pop(0))))
    return found, len(answers) - len(left)


def test_it_is_measured_once(folder):
    assert ask((1, 2)) == ({"a": 1.0, "b": 2.0}, 1)
    assert ask((3, 4)) == ({"a": 1.0, "b": 2.0}, 0)
    assert os.listdir(folder) == [FILE]


@pytest.mark.parametrize("change", ["machine", "threads", "torch"])
def test_another_machine_is_measured_anew(monkeypatch, change):
    ask((1, 2))
    if change == "machine":
        monkeypatch.setattr(kept.fingerprint, "numerics", lambda: {"processor": "another"})
    elif change == "threads":
        monkeypatch.setattr(kept, "threads", lambda: 97)
    else:
        monkeypatch.setattr(kept.torch, "__version__", "0")
    assert ask((3, 4)) == ({"a": 3.0, "b": 4.0}, 1)


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "[]",
        "{",
        '"text"',
        "[" * 100_000,
        {"engine": {"a": 1}},
        {"engine": {"a": 1, "b": 0}},
        {"engine": {"a": 1, "b": -3}},
        {"engine": {"a": 1, "b": True}},
        {"engine": {"a": 1, "b": "2"}},
        {"engine": {"a": 1, "b": float("nan")}},
        {"engine": {"a": 1, "b": float("inf")}},
        {"engine": {"a": 1, "b": 10**400}},
        {"engine": {"a": 1, "b": 1e300}},
        {"engine": {"a": 1, "b": 2, "c": 3}},
        {"engine": None},
    ],
)
def test_a_spoilt_cache_is_measured_anew_in_silence(folder, spoilt, capfd):
    folder.mkdir()
    if isinstance(spoilt, dict):
        spoilt = json.dumps({"machine": kept.this_machine(), **spoilt})
    (folder / FILE).write_text(spoilt)
    assert ask((3, 4)) == ({"a": 3.0, "b": 4.0}, 1)
    assert ask((5, 6))[0] == {"a": 3.0, "b": 4.0}
    assert capfd.readouterr() == ("", "")


def test_bytes_that_are_no_text_are_measured_anew(folder):
    folder.mkdir()
    (folder / FILE).write_bytes(b"\xff\xfe\x00")
    assert ask((3, 4))[1] == 1


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ask((3, 4)) == ({"a": 3.0, "b": 4.0}, 1)


def test_without_a_home_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(kept, "cache_folder", lambda: None)
    assert ask((3, 4))[1] == 1 and ask((5, 6))[1] == 1
