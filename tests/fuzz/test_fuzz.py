"""A small share of the fuzzed files with a fixed seed; `make fuzz` reads 10,000."""

from __future__ import annotations

import json

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy import accounting

from . import run, targets


@pytest.fixture(autouse=True)
def grids_of_others(monkeypatch):
    """Targets price on a coarse grid: what they set is put back."""
    for name in ("CERTIFICATE_GRID", "PLANNING_GRID"):
        monkeypatch.setattr(accounting, name, getattr(accounting, name))


@pytest.mark.parametrize("kind", sorted(set(run.SHARES) - {"safetensors", "base", "privacy"}))
def test_whole_files_are_read(tmp_path, kind):
    """Or else a target would refuse everything, and fuzzing it would show nothing."""
    target = targets.KINDS[kind](tmp_path)
    if kind != "plan":  # spoils one file of several, by name
        for data in target.seeds:
            target.read(data)


def test_spoilt_files_are_read_or_refused():
    quick = tuple(set(run.SHARES) - {"safetensors", "base", "privacy"})
    found = run.fuzz(300, seed=1, kinds=quick)
    assert not found["failures"] and found["read"] > 50 and found["refused"] > 50, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "privacy"])
def test_whole_models_and_certificates_are_read(tmp_path, kind):
    target = targets.KINDS[kind](tmp_path)
    if kind == "safetensors":
        return target.read(target.seeds[1])
    with pytest.raises(SfumatoError, match="a row that this ledger lacks"):  # verified before that
        target.read(target.seeds[0])


@pytest.mark.slow
def test_spoilt_models_and_certificates_are_refused():
    found = run.fuzz(40, seed=1, kinds=("safetensors", "base", "privacy"))
    assert not found["failures"] and found["files"] >= 40, found


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: 1 / 0, "crash: ZeroDivisionError"),
        (lambda data: [None for _ in iter(int, 1)], "hang"),
        (lambda data: bytearray(2**28)[:1], "read"),
    ],
    ids=["crash", "hang", "memory"],
)
def test_the_fuzzer_sees_what_it_is_for(monkeypatch, harm, words):
    monkeypatch.setattr(run, "HANG", 0.3 if words == "hang" else 20)
    monkeypatch.setattr(run, "BYTES", 2**31 if words == "hang" else 2**28)
    monkeypatch.setitem(
        run.KINDS, "png", lambda place: targets.Target([b"x"], harm, lambda rng, data, others: data)
    )
    found = run.fuzz(1, seed=0, kinds=("png",))
    assert found["failed"] == 1 and found["failures"][0]["found"].startswith(words)


def test_a_process_that_dies_is_a_failure(monkeypatch):
    import os

    monkeypatch.setitem(
        run.KINDS, "png", lambda place: targets.Target([b"x"], lambda data: os._exit(9))
    )
    found = run.fuzz(3, seed=0, kinds=("png",))
    assert found["failed"] == 1 and "died" in found["failures"][0]["found"]
    assert json.dumps(found)
