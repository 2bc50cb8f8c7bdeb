"""The benchmark of the sum's sensitivity, on few units: all layer kinds, ways and inputs stay
within the bound, and come near it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_way_of_summing_stays_within_the_bound():
    command = [sys.executable, str(ROOT / "benchmarks" / "sensitivity.py"), "--units", "8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    *rows, last = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0 and last["all_within"] and last["cases"] == len(rows) == 80
    assert {row["way"] for row in rows} == {"keep", "ghost", "lean", "auto"}
    full = [row["of_clip"] for row in rows if row["inputs"] == "aligned"]
    assert min(full) > 0.99  # a clipped unit fills its bound: the measure would see more
