"""The cost model's constants: what they decide, and that they are measured."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, calibrate
from sfumato.gradients.cost import USUAL, Ratios, Work, choose, decide

KEPT = 65_536


def work(gram, conv=False):
    return Work(positions=8, kept=KEPT, gram=gram, inputs=KEPT, conv=conv)


@pytest.mark.parametrize("conv", [False, True])
def test_the_constants_say_where_the_ways_meet(conv):
    ratios = Ratios(linear=10.0, conv=20.0, small=1000)
    edge = (20 if conv else 10) * (KEPT - 1000)
    assert choose([work(edge - 1, conv)], ratios) == ["ghost"]
    assert choose([work(edge + 1, conv)], ratios) == ["keep"]
    assert choose([work(1, conv)], Ratios(10.0, 20.0, KEPT)) == ["keep"]


def test_ways_that_were_written_down_are_taken():
    works = [work(1), work(1), work(1)]
    names = ["a", "b", None]
    assert decide({"a": "keep"}, names, works, USUAL) == ["keep", "ghost", "ghost"]
    assert decide("auto", names, works, USUAL) == ["ghost"] * 3
    assert decide("lean", names, works, USUAL) == ["lean"] * 3


def test_an_engine_takes_the_ways_of_an_earlier_one():
    model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
    trainable, x = dict(model.named_parameters()), torch.randn(4, 100, 128)

    def ways(**how):
        with Engine(model, trainable, **how) as engine:
            engine.clipped_sum(lambda x: model(x).square().mean((1, 2)), x, clip=torch.ones_like)
            return engine.strategies

    assert set(ways().values()) == {"keep"}
    assert set(ways(ratios=Ratios(linear=1e6)).values()) == {"ghost"}
    other = {"0.weight": "keep", "1.weight": "lean"}
    assert ways(strategy=other, ratios=Ratios(linear=1e6)) == other
    with pytest.raises(ValueError, match="strategy must be auto, keep, ghost, lean, not 'fast'"):
        ways(strategy={"0.weight": "fast"})


def points(u, v, fixed, jitter=0.0):
    """(Gram, kept, difference, whole) of a machine with these seconds."""
    g = torch.Generator().manual_seed(0)
    shapes = [(32_768, 4096), (294_912, KEPT), (2_654_208, KEPT), (4_194_304, 262_144)]
    found = []
    for gram, kept in shapes:
        whole = 3 * (gram * u + kept * v)
        off = 1 + jitter * float(torch.randn((), generator=g))
        found.append((gram, kept, (fixed + u * gram - v * kept) * off, whole))
    return found


@pytest.mark.parametrize("ratio", [5.0, 24.0, 90.0])
def test_the_fit_finds_the_machine(ratio):
    linear, small = calibrate._fitted(points(1e-11, ratio * 1e-11, 4096 * ratio * 1e-11), 1.0, 1)
    assert linear == pytest.approx(ratio, rel=0.01) and small == pytest.approx(4096, rel=0.02)
    linear, _ = calibrate._fitted(points(1e-11, ratio * 1e-11, 0.0, 0.05), 1.0, 1)
    assert linear == pytest.approx(ratio, rel=0.5)


def test_times_that_make_no_sense_leave_the_usual():
    assert calibrate._fitted(points(-1e-11, 1e-10, 0.0), 24.0, 4096) == (24.0, 4096)
    assert calibrate._fitted(points(1e-11, -1e-10, 0.0), 24.0, 4096) == (24.0, 4096)
    wild, small = calibrate._fitted(points(1e-11, 1.0, 1e9), 24.0, 4096)
    assert wild == calibrate.MOST and small == calibrate.LARGEST


def test_this_machine_is_measured_in_seconds(monkeypatch):
    monkeypatch.setattr(calibrate, "TURNS", 1)
    began = time.process_time()
    found = calibrate.measure_ratios(torch.device("cpu"), time.process_time)
    assert time.process_time() - began < 6
    for ratio in (found.linear, found.conv):
        assert calibrate.LEAST <= ratio <= calibrate.MOST
    assert calibrate.SMALLEST <= found.small <= calibrate.LARGEST
