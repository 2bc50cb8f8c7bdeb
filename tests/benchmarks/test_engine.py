"""The benchmark of the engine runs on a tiny model, and its JSON has the promised keys."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the engine itself: tests/gradients/test_parity.py
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def row() -> dict:
    options = [
        "--models",
        "tiny",
        "--trainable",
        "attention",
        "--draws",
        "2",
        "--rounds",
        "2",
        "--peer-rounds",
        "1",
    ]
    command = [
        sys.executable,
        "benchmarks/engine.py",
        *options,
        "--methods",
        "reference,torch.func vmap",
        "--json",
    ]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_row_has_the_promised_keys(row):
    promised = {"model", "trainable", "K", "ratio_time", "ratio_memory", "peers", "max_rel_error"}
    more = {
        "ratio_same_twice",
        "base_seconds",
        "versions",
        "threads",
        "processor",
        "commit",
        "strategies",
        "met",
    }
    assert promised | more <= set(row)
    assert (row["model"], row["trainable"], row["K"], row["threads"]) == ("tiny", "attention", 2, 1)


def test_both_engines_and_the_peer_agree(row):
    assert row["met"]["parity"] and row["max_rel_error"] < 1e-4
    assert set(row["peers"]) == {"reference", "torch.func vmap"}
    for peer in row["peers"].values():
        assert peer["max_rel_error"] < 1e-4 and peer["ratio_time"] > 0 and peer["ratio_memory"] > 0


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_peak_bytes_counts_what_was_held_at_once():
    import torch

    def run():
        first = torch.zeros(1_000_000)
        second = first + 1
        del first
        return second * 2

    result, peak = load("measure").peak_bytes(run)
    assert result.numel() == 1_000_000
    assert 8_000_000 <= peak < 8_100_000
