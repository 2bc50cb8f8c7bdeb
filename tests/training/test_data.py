"""The latent cache, and the draws of a unit, which depend on nobody else."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.errors import SfumatoError
from sfumato.training import UnitBatch, build_latents, open_latents


def batch_of(data, units, key, *, step=0, attempt=0, draws=2, time_bias=1.5, dropout=0.0):
    return UnitBatch(data, np.asarray(units), key, step, attempt, draws, time_bias, dropout, 1000)


def same(a, b):
    return all(torch.equal(x, b.tensors[name]) for name, x in a.tensors.items())


def test_a_units_draws_do_not_depend_on_its_place_or_company(latents, key):
    data = latents(12, [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6, 7])
    alone = batch_of(data, [5], key)[0:1]
    for units, place in (([5, 6, 7], 0), ([0, 2, 5], 2), (range(8), 5)):
        assert same(batch_of(data, units, key)[place : place + 1], alone)
        assert same(batch_of(data, units, key)[0 : len(units)][place : place + 1], alone)


def test_slices_join_to_the_whole(latents, key):
    batch = batch_of(latents(9), range(9), key)
    parts = [batch[i : i + 2] for i in range(0, 9, 2)]
    whole = batch[0:9]
    for name, value in whole.tensors.items():
        assert torch.equal(torch.cat([p.tensors[name] for p in parts]), value)
    assert len(whole) == 9 and len(parts[-1]) == 1


def test_another_records_pixels_change_nothing_here(latents, key):
    data = latents(6)
    before = batch_of(data, range(6), key)[0:6]
    mean, label = data.mean.copy(), data.label.copy()
    mean[2], label[2] = np.nan, -1
    after = batch_of(replace(data, mean=mean, label=label), range(6), key)[0:6]
    keep = [0, 1, 3, 4, 5]
    for name, value in before.tensors.items():
        assert torch.equal(value[keep], after.tensors[name][keep])
    assert torch.equal(before.noise[2], after.noise[2]) and torch.equal(
        before.time[2], after.time[2]
    )
    assert not after.weight[2].any()


def test_each_step_and_attempt_draws_anew(latents, key):
    data = latents(4)
    first = batch_of(data, range(4), key)[0:4]
    for other in ({"step": 1}, {"attempt": 1}):
        assert not torch.equal(first.noise, batch_of(data, range(4), key, **other)[0:4].noise)


def test_only_the_units_own_images_are_read_and_all_of_them_in_time(latents, key):
    data = latents(8, [1, 0, 1, 0, 2, 0, 1, 2])
    data.mean[:] = np.arange(8).reshape(8, 1, 1, 1)
    seen = {0: set(), 1: set(), 2: set()}
    for step in range(40):
        part = batch_of(data, range(3), key, step=step)[0:3]
        for unit in seen:
            seen[unit] |= set(part.mean[unit, :, 0, 0, 0].int().tolist())
    assert seen == {0: {1, 3, 5}, 1: {0, 2, 6}, 2: {4, 7}}


def test_a_unit_without_images_contributes_nothing_and_shows_no_other_units(latents, key):
    """A neighbour's image would otherwise count twice, under two clips: sensitivity 2 C."""
    part = batch_of(latents(4, [0, 0, 2, 4]), range(5), key, draws=3)[0:5]
    assert part.weight.any(1).tolist() == [True, False, True, False, True]
    last = latents(2, [0, 0])
    empty = replace(last, first=np.array([0, 2, 2]))
    assert batch_of(empty, [1], key)[0:1].weight.tolist() == [[0.0, 0.0]]


def test_distributions(latents, key):
    data = latents(400)
    part = batch_of(data, range(400), key, draws=4, dropout=0.25)[0:400]
    assert stats.kstest(part.noise.flatten().numpy(), "norm").pvalue > 1e-6
    assert stats.kstest(part.latent_noise.flatten().numpy(), "norm").pvalue > 1e-6
    share = ((part.time.flatten().numpy() + 0.5) / 1000) ** 1.5  # undo the bias
    assert stats.kstest(share, "uniform").pvalue > 1e-6
    assert part.time.min() >= 0 and part.time.max() <= 999
    assert stats.binomtest(int(part.drop.sum()), 1600, 0.25).pvalue > 1e-6
    assert abs(np.corrcoef(part.noise.flatten(), part.latent_noise.flatten())[0, 1]) < 0.05


def encode(images):
    x = torch.from_numpy(images).float().mean((1, 2))[:, :, None, None] / 255
    return x, x * 0 + 0.5


def test_the_cache_holds_each_image_once_in_slot_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (11, 4, 4, 3), np.uint8)
    asked, unit = [], np.array([0, 1, 1, 2, 0, 3, 3, 3, 4, 5, 5])

    def read(slots):
        asked.extend(slots.tolist())
        return images[slots], slots != 9

    built = build_latents(tmp_path / "cache", 11, read, encode, np.arange(11) - 1, unit, batch=4)
    again = open_latents(tmp_path / "cache")
    backwards = np.arange(11)[::-1].copy()
    other = build_latents(
        tmp_path / "other",
        11,
        lambda s: (images[s], s != 9),
        encode,
        np.arange(11) - 1,
        unit,
        order=backwards,
    )
    np.testing.assert_array_equal(other.mean, again.mean)
    assert asked == list(range(11)) and built.n_units == 6 and built.latent_shape == (3, 1, 1)
    np.testing.assert_allclose(again.mean[:, :, 0, 0], images.mean((1, 2)) / 255, atol=1e-3)
    assert isinstance(again.mean, np.memmap)
    # a picture that is gone weighs nothing
    assert again.label.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, 7, -1, 9]
    for number in range(6):
        assert set(again.order[again.first[number] : again.first[number + 1]]) == set(
            np.flatnonzero(unit == number)
        )


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    images = np.zeros((3, 4, 4, 3), np.uint8)
    with pytest.raises(SfumatoError, match="No space left"):
        build_latents(
            tmp_path / "c", 3, lambda s: (images[s], s >= 0), encode, np.zeros(3, int), np.arange(3)
        )
