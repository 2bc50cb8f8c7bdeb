"""Buckets: which size a picture goes to depends on it alone, and a unit touches its own part."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, ReferenceEngine
from sfumato.privacy.random.keys import RunKey
from sfumato.training import UnitBatch, build_latents, open_latents
from sfumato.training.buckets import Buckets, nearest_bucket
from sfumato.training.data import MixedBatch

SIZES = ((16, 16), (8, 24), (24, 8))
SHAPES = ((2, 4, 4), (2, 6, 2), (2, 2, 6))
UNIT = np.array([0, 0, 1, 2, 2, 2, 3, 4])
BUCKET = np.array([0, 1, 2, 1, 0, 1, 0, 2])


def test_the_nearest_shape_is_taken_and_of_equal_shapes_the_nearest_area():
    pictures = np.array([[100, 100], [50, 150], [300, 100], [90, 200], [0, 0], [110, 100]])
    assert nearest_bucket(pictures, SIZES).tolist() == [0, 1, 2, 1, 0, 0]
    two = ((64, 64), (512, 512))
    assert nearest_bucket(np.array([[60, 61], [700, 690], [100, 90]]), two).tolist() == [0, 1, 0]


def test_a_pictures_bucket_does_not_depend_on_others():
    rng = np.random.default_rng(0)
    pictures = rng.integers(8, 400, (200, 2))
    found = nearest_bucket(pictures, SIZES)
    assert set(found.tolist()) == {0, 1, 2}
    for i in range(0, 200, 7):
        assert nearest_bucket(pictures[i : i + 1], SIZES)[0] == found[i]
    mirrored = nearest_bucket(pictures[:, ::-1], SIZES)
    assert (mirrored == np.array([0, 2, 1])[found]).all()


@pytest.fixture
def data(tmp_path):
    """Latents of 8 images of 5 units in three shapes; image i's numbers are all i."""
    buckets = Buckets.of(SHAPES, BUCKET, UNIT)

    def images(slots):
        (one,) = set(BUCKET[slots])
        width, height = SIZES[one]
        return np.stack([np.full((height, width, 3), s) for s in slots]), np.ones(len(slots), bool)

    def encode(pictures):
        _, height, width, _ = pictures.shape
        first = torch.from_numpy(pictures[:, :1, :1, 0].astype(np.float32))[:, None]
        return first.expand(-1, 2, height // 4, width // 4), torch.zeros(
            len(pictures), 2, height // 4, width // 4
        )

    built = build_latents(
        tmp_path, 8, images, encode, np.zeros(8, np.int64), UNIT, batch=3, buckets=buckets
    )
    again = open_latents(tmp_path)
    assert again.buckets is not None and again.buckets.shapes == SHAPES
    assert all(
        np.array_equal(getattr(built.buckets, n), getattr(again.buckets, n))
        for n in ("image", "begin", "count")
    )
    return again


def mixed(data, units, draws=3, step=0):
    batch = UnitBatch(data, np.asarray(units), RunKey(bytes(32)), step, 0, draws, 1.5, 0.0, 1000)
    return MixedBatch(batch, data.buckets)


def test_all_draws_of_a_unit_look_at_its_pictures_of_one_size(data):
    seen = {unit: set() for unit in range(5)}
    for step in range(60):
        for unit in range(5):
            (part,) = mixed(data, [unit], step=step)[0:1]
            found = part.mean.flatten(2).amax(2).long()[0]
            assert torch.equal(part.mean, part.mean[..., :1, :1].expand_as(part.mean))
            (shape,) = {SHAPES.index(tuple(part.mean.shape[2:]))}
            assert {int(BUCKET[i]) for i in found} == {shape}
            assert {int(UNIT[i]) for i in found} == {unit}
            seen[unit] |= set(found.tolist())
    assert seen == {0: {0, 1}, 1: {2}, 2: {3, 4, 5}, 3: {6}, 4: {7}}


def test_parts_hold_each_unit_once_with_its_own_draws(data):
    alone = {}
    for unit in range(5):
        (alone[unit],) = mixed(data, [unit])[0:1]
    for units in ([0, 1, 2, 3, 4], [4, 2, 0], [1, 3]):
        parts = mixed(data, units)[0 : len(units)]
        assert sum(map(len, parts)) == len(units)
        for part in parts:
            for place in range(len(part)):
                one = part[place : place + 1]
                match = [
                    u for u in units
                    if all(torch.equal(v, alone[u].tensors[n]) for n, v in one.tensors.items())
                ]  # fmt: skip
                assert len(match) == 1


class Net(nn.Module):
    """A convolution that takes every size, and a bias of each channel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)


def losses_of(net):
    def losses(batch):
        rows = (batch.mean + batch.noise).flatten(0, 1)
        return net.conv(rows).pow(2).mean((1, 2, 3)) * batch.weight.flatten()

    return losses


def test_the_sum_over_sizes_is_that_of_one_record_at_a_time(data):
    torch.manual_seed(0)
    net = Net()
    clip = SimpleNamespace(factors=lambda norms: (0.5 / norms).clamp(max=1.0))
    named = dict(net.named_parameters())
    with Engine(net, named) as engine:
        sums, norms = engine.clipped_sum(
            losses_of(net), mixed(data, range(5)), draws=3, clip=clip.factors, micro_batch=4
        )
    with ReferenceEngine(net, named) as reference:
        exact, own = reference.clipped_sum(
            losses_of(net), mixed(data, range(5)), draws=3, clip=clip.factors
        )
    for name, total in exact.items():
        assert torch.allclose(sums[name], total, rtol=1e-5, atol=1e-7)
    assert torch.allclose(norms.sort()[0], own.sort()[0], rtol=1e-5)


def test_one_unit_moves_the_sum_by_its_clip_at_most(data):
    torch.manual_seed(0)
    net = Net()
    named = dict(net.named_parameters())

    def total(units):
        with Engine(net, named) as engine:
            sums, _ = engine.clipped_sum(
                losses_of(net),
                mixed(data, units),
                draws=3,
                clip=lambda norms: (0.5 / norms).clamp(max=1.0),
                micro_batch=2,
            )
        return torch.cat([value.flatten() for value in sums.values()])

    whole = total([0, 1, 2, 3, 4])
    for gone in range(5):
        moved = (whole - total([u for u in range(5) if u != gone])).norm()
        assert 0 < float(moved) <= 0.5 * (1 + 1e-5)


def test_another_pictures_size_leaves_a_units_draws_alone(data):
    one = mixed(data, [3])[0:1]
    image = BUCKET.copy()
    image[[0, 1]] = 1
    other = replace(data, buckets=Buckets.of(SHAPES, image, UNIT))
    for before, after in zip(one, mixed(other, [3])[0:1]):
        assert torch.equal(before.mean, after.mean) and torch.equal(before.noise, after.noise)


def test_nobody_elses_size_shapes_what_a_unit_is_computed_in(data):
    """A unit without its picture goes to another bucket; no part of another may gain or lose a row,
    which would change the last bits of all its gradients.
    """
    parts = mixed(data, np.arange(5), 2)[0:5]
    assert [len(part) for part in parts] == [1] * 5
