"""A short `make storm`: one kill at each named point, and enough random ones to see progress, a cap
and a charge.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_faults import shim  # noqa: F401

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def told(module, *words, **more):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, words)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    print(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_at_every_point(shim, tmp_path):  # noqa: F811
    (found,) = told("storm", tmp_path / "runs", "--each", 1, LD_PRELOAD=str(shim))
    assert found["states"] == 36 and found["least_in_a_state"] >= 1 and found["kills"] >= 36
    assert found["releases"] == found["runs"] > 3 and found["charges"] >= found["releases"]


def test_random_kills_a_cap_and_a_charge(tmp_path):
    words = ("--kills", 200, "--least", 1, "--room", 60, "--charges", 50)
    kills, *caps, small, _, large, old = told("ledgers", tmp_path / "ledgers", *words)
    assert kills["kills"] == 200 and kills["charges"] > 50 and kills["releases"] > 20
    assert [cap["charges"] for cap in caps] == [cap["room"] for cap in caps] and caps[0][
        "room"
    ] == 60
    assert small["images"] == 50 and large["images"] == 60_000 and old["rows_before"] == 100_000
