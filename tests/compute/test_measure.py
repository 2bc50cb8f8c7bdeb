"""Two formats timed in turns: which is taken, and how long that may last."""

from __future__ import annotations

import pytest
import torch

from sfumato.compute import measure
from sfumato.compute.measure import Trial


@pytest.mark.parametrize(
    "bfloat16, taken",
    [(0.5, "bfloat16"), (0.89, "bfloat16"), (0.91, "float32"), (1.0, "float32"), (2, "float32")],
)
def test_bfloat16_must_save_a_tenth(bfloat16, taken):
    assert Trial(1.0, bfloat16, 4).quicker == taken


def test_a_ratio_is_that_of_a_format_over_the_other():
    trial = Trial(float32=3.0, bfloat16=2.0, rows=4)
    assert trial.ratio("float32") == 1.5 and trial.ratio("bfloat16") == pytest.approx(2 / 3)


def clocked(seconds):
    """A clock that only work moves; `seconds(format, rows)` of a pass. Returns the passes."""
    now, passes = [0.0], []

    def make(name, rows):
        def work():
            passes.append((name, rows))
            now[0] += seconds(name, rows)

        return work

    return make, passes, lambda: now[0]


def test_rows_grow_until_a_pass_is_worth_timing():
    make, passes, clock = clocked(lambda name, rows: rows * 0.01)
    found = measure.compare(make, clock)
    assert found.rows == 16 and {rows for _, rows in passes[2:]} == {16}
    assert found.float32 == pytest.approx(found.bfloat16) == pytest.approx(0.16)


def test_rows_stop_growing():
    make, passes, clock = clocked(lambda name, rows: 1e-6)
    assert measure.compare(make, clock).rows == measure.MOST_ROWS


def test_both_take_turns_and_the_quickest_turn_counts():
    slow = iter([0.3, 0.5, 0.2, 0.3, 0.4])  # of bfloat16: only ever slower than it is

    def seconds(name, rows):
        return 0.25 if name == "float32" else next(slow)

    make, passes, clock = clocked(seconds)
    found = measure.compare(make, clock)
    assert (found.float32, found.bfloat16) == (pytest.approx(0.25), pytest.approx(0.2))
    turns = [name for name, _ in passes[1:]]  # the first one fills caches
    assert turns == ["float32", "bfloat16"] * (len(turns) // 2) and len(turns) == 8


def test_a_first_pass_that_fills_caches_does_not_stop_the_rows():
    met: set[str] = set()

    def seconds(name, rows):
        first = name not in met
        met.add(name)
        return rows * 0.001 + (0.4 if first else 0.0)

    make, _, clock = clocked(seconds)
    found = measure.compare(make, clock)
    assert found.rows == measure.MOST_ROWS
    assert found.float32 == pytest.approx(found.bfloat16) == pytest.approx(0.064)


@pytest.mark.parametrize(("seconds", "each"), [(0.2, 1), (40.0, 2)])
def test_short_passes_are_timed_on_one_thread(seconds: float, each: int):
    """Waiting threads count as work, and for more beside other work; long passes hardly wait."""
    before, seen, now = torch.get_num_threads(), [], [0.0]
    torch.set_num_threads(2)

    def make(name, rows):
        def work():
            seen.append(torch.get_num_threads())
            now[0] += seconds

        return work

    try:
        measure.compare(make, lambda: now[0])
        assert seen[0] == 2 and set(seen[1:]) == {each}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_large_model_is_timed_once_in_each():
    make, passes, clock = clocked(lambda name, rows: 40.0 if name == "float32" else 20.0)
    assert measure.compare(make, clock) == Trial(40.0, 20.0, 4)
    assert len(passes) == 2


def test_the_real_clock_sees_which_is_slower():
    def make(name, rows):
        return lambda: sum(range(3_000_000 if name == "float32" else 1_000_000))

    assert measure.compare(make).quicker == "bfloat16"


def test_measuring_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(measure.OPT_OUT, "0")
    assert not measure.measures()
    monkeypatch.delenv(measure.OPT_OUT)
    assert measure.measures()
