"""Batched inversion: rows that do not know of each other, and a loss that falls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.bases import load_base
from sfumato.methods.inversion.batch import Chunk, InversionRecipe, Inverter, chunks
from sfumato.methods.inversion.geometry import from_vocabulary
from sfumato.privacy.random.keys import RunKey
from sfumato.training import LatentData

torch.set_num_threads(1)
KEY = RunKey(bytes(range(32)))
RECIPE = InversionRecipe(steps=6, draws=2, check_every=2, checks=2, tolerance=-1.0)
J, PROMPTS = 6, ["a <s> picture"]


@pytest.fixture(scope="module")
def inverter(tiny_base):
    base = load_base(tiny_base)
    geometry = from_vocabulary(base, ["circle"], 1, 8)
    return Inverter(base, PROMPTS, ["<s>"], geometry, RECIPE, torch.float32)


def latents(n=J, seed=0):
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal((n, 4, 8, 8)).astype(np.float16)
    return LatentData(
        mean, np.full_like(mean, 0.1), np.zeros(n, np.int64), np.arange(n), np.arange(n + 1)
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tolerance", [-1.0, 0.02])
def test_dropping_one_record_leaves_every_other_bit(inverter, tiny_base, precision, tolerance):
    """Also where rows stop at different steps, and whatever stands in the row that is dropped:
    huge, NaN or infinite.
    """
    inverter = Inverter(
        load_base(tiny_base),
        PROMPTS,
        ["<s>"],
        inverter.geometry,
        replace(RECIPE, tolerance=tolerance),
        precision,
    )
    data, chunk = latents(), Chunk(np.arange(J))
    whole, steps = inverter.invert(data, chunk, KEY)
    assert np.abs(whole).max(1).min() > 0
    for gone in range(J):
        label = data.label.copy()
        label[gone] = -1
        other, other_steps = inverter.invert(replace(data, label=label), chunk, KEY)
        kept = np.arange(J) != gone
        assert (
            other[kept].tobytes() == whole[kept].tobytes()
            and (steps[kept] == other_steps[kept]).all()
        )
        assert not other[gone].any() and other_steps[gone] == 0
    for strange in (np.nan, np.inf, 6e4):
        mean = data.mean.copy()
        mean[2] = strange
        other, _ = inverter.invert(replace(data, mean=mean), chunk, KEY)
        kept = np.arange(J) != 2
        assert other[kept].tobytes() == whole[kept].tobytes()


def test_the_number_of_threads_leaves_no_bit_to_chance(inverter):
    """Threads that share one row must not add its draws in the order in which they happen
    to come.
    """
    many, data, found = inverter.with_recipe(replace(RECIPE, steps=2, draws=24)), latents(13), set()
    try:
        torch.set_num_threads(8)
        for _ in range(6):
            found.add(many.invert(data, Chunk(np.arange(13)), KEY)[0].tobytes())
    finally:
        torch.set_num_threads(1)
    assert len(found) == 1


def test_a_row_depends_on_its_content_and_the_key_alone(inverter):
    data = latents()
    whole, _ = inverter.invert(data, Chunk(np.arange(J)), KEY)
    turned, _ = inverter.invert(data, Chunk(np.roll(np.arange(J), 2)), KEY)
    assert np.allclose(np.roll(whole, 2, axis=0), turned, atol=1e-4)
    other, _ = inverter.invert(data, Chunk(np.arange(J)), RunKey(bytes(32)))
    assert not np.allclose(whole, other, atol=1e-4)
    alone, _ = inverter.invert(data, Chunk(np.array([3])), KEY)
    assert np.allclose(alone[0], whole[3], atol=1e-3)


def test_self_check_finds_a_model_that_couples_rows(inverter):
    assert inverter.self_check(4) and inverter.self_check(1)
    coupled = inverter.with_recipe(inverter.recipe)
    plain = coupled.row_losses
    coupled.row_losses = lambda batch, words: plain(batch, words) * (1 + 1e-3 * batch.mean.mean())
    assert not coupled.self_check(4)
    dead = inverter.with_recipe(inverter.recipe)
    dead.row_losses = lambda batch, words: plain(batch, words) * 0
    assert not dead.self_check(4)


def test_the_radius_is_never_left_and_the_loss_falls(inverter):
    long = inverter.with_recipe(replace(RECIPE, steps=60, draws=4, step_size=0.2))
    data, chunk = latents(), Chunk(np.arange(J))
    z, _ = long.invert(data, chunk, KEY)
    assert (np.linalg.norm(z, axis=1) <= inverter.geometry.radius * (1 + 1e-5)).all()
    before, after = (inverter.losses(data, chunk, KEY, point) for point in (np.zeros_like(z), z))
    assert after.mean() < before.mean()


def test_a_row_stops_by_its_own_loss(inverter):
    picky = inverter.with_recipe(replace(RECIPE, steps=12, tolerance=0.9))
    _, steps = picky.invert(latents(), Chunk(np.arange(J)), KEY)
    assert (steps == 4).all()  # never 90 % better than two steps before
    label = np.zeros(J, np.int64)
    label[1] = -1
    _, steps = picky.invert(replace(latents(), label=label), Chunk(np.arange(J)), KEY)
    assert steps[1] == 0


def test_a_row_stops_by_its_own_loss_whatever_the_others_do(inverter):
    """Rows of one chunk end at different steps, and each where it ends alone."""
    found = []
    for tolerance in (0.0, 0.003, 0.01, 0.03):
        own = inverter.with_recipe(replace(RECIPE, steps=12, tolerance=tolerance))
        _, together = own.invert(latents(), Chunk(np.arange(J)), KEY)
        label = np.full(J, -1)
        label[0] = 0
        _, alone = own.invert(replace(latents(), label=label), Chunk(np.arange(J)), KEY)
        assert alone[0] == together[0]
        found.append(len(set(together.tolist())))
    assert max(found) > 1


def test_chunks_are_laid_out_by_place_and_padded():
    parts = chunks(np.array([4, 2, 0, 1, 3]), 2)
    assert [part.slots.tolist() for part in parts] == [[4, 2], [0, 1], [3, -1]]


def test_no_draw_is_shared_between_rows_or_steps(inverter):
    from sfumato.methods.inversion.batch import _Rows

    rows = _Rows(
        latents(), Chunk(np.arange(J)), KEY, 0, (4, 8, 8), 1000, RECIPE, torch.device("cpu")
    )
    first, second, fixed = rows.draws(0, 2), rows.draws(1, 2), rows.draws(-1, 2)
    flat = torch.cat([b.noise.reshape(2 * J, -1) for b in (first, second, fixed)])
    close = torch.corrcoef(flat) - torch.eye(len(flat))
    assert close.abs().max() < 0.4  # 256 numbers each
    assert ((first.time[:, 0] < 500) & (first.time[:, 1] >= 500)).all()
    again = rows.draws(0, 2)
    assert torch.equal(first.noise, again.noise) and torch.equal(first.time, again.time)
