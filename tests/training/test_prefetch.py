"""Microbatches that are drawn ahead are the very ones that would be drawn in their turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sfumato.privacy.random.keys import RunKey
from sfumato.training import LatentData, UnitBatch
from sfumato.training.prefetch import Fetched, fetched


@pytest.fixture(autouse=True)
def pinned(monkeypatch):
    """Memory that the system may not move is for machines with a device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


@pytest.fixture
def batch():
    mean = np.random.default_rng(0).standard_normal((30, 4, 2, 2)).astype(np.float16)
    own = np.arange(30)
    data = LatentData(mean, np.full_like(mean, 0.1), own % 3, own, np.arange(31))
    return UnitBatch(data, own[:23], RunKey(bytes(32)), 5, 1, 2, 1.5, 0.1, 1000)


def cuts(size, most):
    passes = -(-size // most)
    return [slice(i * size // passes, (i + 1) * size // passes) for i in range(passes)]


@pytest.mark.parametrize("most", [1, 5, 23, 40])
def test_parts_are_those_of_the_batch(batch, most):
    with ThreadPoolExecutor(1) as thread:
        ahead = Fetched(batch, most, thread)
        assert len(ahead) == 23
        for part in cuts(23, most):
            found, right = ahead[part], batch[part]
            assert all(torch.equal(found.tensors[n], v) for n, v in right.tensors.items())
        assert not ahead._coming  # nothing is drawn for nobody


def test_every_part_is_drawn_once(batch, monkeypatch):
    drawn, plain = [], UnitBatch.__getitem__

    def draw(self, part):
        drawn.append((part.start, part.stop))
        return plain(self, part)

    monkeypatch.setattr(UnitBatch, "__getitem__", draw)
    with ThreadPoolExecutor(1) as thread:
        ahead = Fetched(batch, 6, thread)
        for part in cuts(23, 6):
            ahead[part]
    assert drawn == [(0, 5), (5, 11), (11, 17), (17, 23)]


def test_other_parts_are_drawn_when_they_are_asked_for(batch):
    with ThreadPoolExecutor(1) as thread:
        ahead = Fetched(batch, 6, thread)
        found, right = ahead[3:9], batch[3:9]
        assert torch.equal(found.noise, right.noise) and torch.equal(found.time, right.time)


def test_an_error_of_the_thread_is_the_callers(batch, monkeypatch):
    def lost(self, part):
        raise OSError("the disk is gone")

    monkeypatch.setattr(UnitBatch, "__getitem__", lost)
    with ThreadPoolExecutor(1) as thread, pytest.raises(OSError, match="gone"):
        Fetched(batch, 6, thread)[0:5]


def test_an_empty_batch_is_empty(batch):
    none = UnitBatch(batch.data, np.arange(0), batch.key, 5, 1, 2, 1.5, 0.1, 1000)
    with ThreadPoolExecutor(1) as thread:
        ahead = Fetched(none, 6, thread)
        assert len(ahead) == 0 and not ahead._coming


def test_the_host_draws_in_its_turn(batch):
    assert fetched(batch, torch.device("cpu"), 6) is batch
    assert isinstance(fetched(batch, torch.device("meta"), 6), Fetched)
