"""The benchmarks of the noise: every way is timed, and the attacks on low bits bite where noise is
floats and only there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("integer_noise", "low_bits", "measure", "rows")


@pytest.fixture
def programs(monkeypatch):
    """The modules `integer_noise` and `low_bits` of the folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import integer_noise
    import low_bits

    yield integer_noise, low_bits
    for name in NAMES:
        sys.modules.pop(name, None)


def test_every_way_is_timed(programs):
    row = programs[0].measure(100_000, numbers=20_000, rounds=2)
    assert row["terms"] == 2 and all(row[f"{way}_ns"] > 0 for way in ("integer", "float", "words"))
    assert row["ratio"] == row["integer_ns"] / row["float_ns"]


@pytest.mark.slow
def test_the_attacks_bite_on_floats_alone(programs):
    """120 steps of the real loop at sigma 1: most guesses on the control are right, those on what
    leaves are near the bound.
    """
    rows = {row["output"]: row for row in programs[1].measure(1.0, trials=120)}
    assert set(rows) == set(programs[1].OUTPUTS)
    assert rows["control"]["accuracy"]["impossible"] > 0.9 and not rows["control"]["within"]
    assert all(row["within"] for name, row in rows.items() if not name.startswith("control"))
    assert rows["integers"]["chi_square_p"] > 1e-6 and rows["integers"]["residues_p"] > 1e-6


def test_statistics_of_the_attack(programs):
    """Numbers that float noise cannot have made are counted, and trailing zeros and equal bits are
    what they say.
    """
    low_bits = programs[1]
    clean = np.float32([1.0, 1.0, 1e-3])
    assert low_bits.impossible(clean + np.float32([0.25, 0.125, 1.0]), clean) == 0
    # below the last place of 1
    assert low_bits.impossible(np.float32([2**-30]), np.float32([1.0])) == 1
    # 2 and 4, in units of 2^-60
    assert low_bits.trailing_zeros(np.float64([3.0, 4.0]), np.float64([1.0, 0.0])) == 61.5
    seen, out, inn = (np.int64(v) for v in ([5, 6], [4, 4], [5, 7]))
    assert low_bits.features(seen, (out, inn), inn - out)[3:] == [0.0, 1.0, 1.0]
