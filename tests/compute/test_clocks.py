"""Clocks of work on a device that goes on after the host's call has returned."""

from __future__ import annotations

import time

import pytest
import torch

from sfumato.compute import clocks, measure
from sfumato.gradients import calibrate, measure_ratios
from sfumato.methods import pace

from . import fake_device as fake

fake.register()


@pytest.fixture
def queued(monkeypatch):
    """Seconds of work that the device still has to do: whoever waits for it waits so long."""
    left: list[float] = []

    def finish(self, device=None):
        fake._now[-1].synchronized += 1
        while left:
            time.sleep(left.pop())

    monkeypatch.setattr(fake._Backend, "synchronize", finish)
    return left


def test_on_the_host_other_work_does_not_count():
    clock = clocks.work_clock()
    started = clock()
    time.sleep(0.2)
    assert clock() - started < 0.1


@pytest.mark.parametrize("of", [clocks.work_clock, clocks.wall_clock])
def test_what_a_device_still_does_counts(queued, of):
    with fake.fake_device() as seen:
        clock = of()
        queued.append(0.2)  # of somebody before
        started = clock()
        assert not queued
        queued.append(0.1)
        assert 0.1 <= clock() - started < 0.19 and seen.synchronized == 2


def test_a_wall_clock_of_the_host_waits_for_nobody():
    with fake.fake_device() as seen:
        clocks.wall_clock(torch.device("cpu"))()
        clocks.work_clock(torch.device("cpu"))()
        assert seen.synchronized == 0


def test_formats_are_compared_by_what_the_device_does(queued, monkeypatch):
    """The host asks in no time for both; and the start of its libraries is no pass of a run."""
    monkeypatch.setattr(measure, "WORTH", 0.04)
    asked = []

    def make(name, rows):
        def work():
            asked.append((name, rows))
            queued.append((0.004 if name == "float32" else 0.002) * rows + (len(asked) == 1))

        return work

    with fake.fake_device():
        found = measure.compare(make)
    assert found.rows == 16 and found.quicker == "bfloat16"
    assert found.float32 == pytest.approx(0.064, rel=0.3) and asked[:2] == [("float32", 4)] * 2


def test_the_engines_constants_are_measured_on_the_device(monkeypatch):
    monkeypatch.setattr(calibrate, "TURNS", 1)
    monkeypatch.setattr(calibrate, "LINEARS", ((2, 8, 32, 4), (2, 8, 64, 8), (2, 8, 32, 16)))
    monkeypatch.setattr(calibrate, "CONVS", ((2, 4, 8, 4), (2, 4, 16, 4), (2, 4, 8, 8)))
    with fake.fake_device() as seen:
        measure_ratios(fake.DEVICE, clocks.work_clock())
        assert seen.synchronized == 6 * 2 * 2  # shapes, ways, before and after
        assert seen.operations["convolution"] and seen.operations["linear"] + seen.operations["mm"]


def test_the_pace_of_a_run_waits_for_the_device(queued):
    with fake.fake_device():
        assert pace._quicker(lambda: queued.append(0.3)) >= 0.3
