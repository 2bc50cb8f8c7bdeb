"""`make faults`: every system call of a run's life fails, tears or kills once; what was told is in
the ledger, nothing is half.

FAULT_STRIDE=3 in the environment tries every third call only. Named kill points of the training
loop: below.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the shim needs Linux and a C compiler")
    out = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(out), str(HERE / "shim.c"), "-ldl"],
        check=True,
    )
    return out


def test_every_call_may_fail_tear_or_kill(shim, tmp_path):
    stride = os.environ.get("FAULT_STRIDE", "1")
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "driver.py"), str(tmp_path), stride],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(json.dumps(found, indent=1))
    assert not found["failures"], (
        f"{len(found['failures'])} failures, first: {found['failures'][:5]}"
    )
    # A test that killed nothing, or only before the charge, must fail.
    assert found["calls"] > 100
    least = 20 if stride == "1" else 1
    for state in ("PLAN", "CHARGE", "ATTEMPT", "NOTE", "RELEASE", "CERTIFY"):
        assert found["landed"].get(state, 0) >= min(least, 5), (
            f"no kill landed in {state}: {found['landed']}"
        )
