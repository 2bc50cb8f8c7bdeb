"""The benchmark of a GPU runs whole on the CPU with tiny shapes, and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(out, *more):
    command = [sys.executable, "benchmarks/gpu.py", "--smoke", "--out", str(out), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    kept = (out / "gpu.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in kept] == rows
    return {row["part"]: row for row in rows}


@pytest.mark.slow
def test_every_part_has_its_line(tmp_path):
    rows = run(tmp_path / "out")
    assert not [row for row in rows.values() if "error" in row or "skipped" in row]
    assert {"right", "noise", "feed", "checkpointed attention"} < set(rows)
    for trainable in ("lora8", "attention", "whole"):
        row = rows[f"step {trainable}"]
        assert row["ratio_time"] > 0 and row["ratio_memory"] > 0 and row["bars"]
    assert len(rows["peers whole"]["peers"]) == 3
    right = rows["right"]
    assert all(one["repeats"] and one["sum_error"] == 0 for one in right["sums"].values())
    assert right["noise_equal"] and right["run"]["replay_equal"]
    assert rows["noise"]["of_860_million"] > 0


def test_a_part_without_time_or_with_an_error_says_so(tmp_path):
    rows = run(tmp_path / "out", "--seconds", "-1", "--only", "noise,feed")
    assert {row["skipped"] for row in rows.values()} == {"no time left"}
    assert {row["smoke"] for row in rows.values()} == {True} and set(rows) == {"noise", "feed"}
