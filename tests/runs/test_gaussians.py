"""Bases as Gaussians: the density is the one that is said, few or equal pictures make one, and an
image's answer is its own.
"""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy.mechanisms.base_vote import DIRECTIONS
from sfumato.runs.gaussians import LEAST, contrast, factors_of, likeliest
from sfumato.runs.matching import FORMER


def cloud(rng, n, d, spread=1.0, middle=0.0):
    return (middle + spread * rng.standard_normal((n, d))).astype(np.float32)


def test_the_factors_are_log_densities_of_shrunk_gaussians():
    rng, d = np.random.default_rng(0), 5
    tables = [cloud(rng, 40, d), cloud(rng, 60, d, 2.0, 1.0), cloud(rng, 50, d, 0.5, -1.0)]
    rows = cloud(rng, 30, d, 2.0)
    factors = factors_of(tables)
    wide = np.column_stack([rows, np.ones(30)])
    found = np.array([((wide @ factor.T) ** 2).sum(1) for factor in factors])
    own = [np.cov(table.T.astype(float), bias=True) for table in tables]
    every = np.concatenate(tables).astype(float)
    least = LEAST * np.linalg.eigvalsh(np.cov(every.T, bias=True)).mean() * np.eye(d)
    right = []
    for table, covariance in zip(tables, own):
        share = DIRECTIONS / (DIRECTIONS + len(table))
        shrunk = (1 - share) * covariance + share * np.mean(own, axis=0) + least
        away = rows - table.mean(0, dtype=float)
        far = np.einsum("ni,ij,nj->n", away, np.linalg.inv(shrunk), away)
        right.append(far + np.linalg.slogdet(shrunk)[1])
    # up to what all bases have in common
    assert np.allclose(found - found[0], np.array(right) - right[0], rtol=1e-6, atol=1e-6)
    assert (likeliest(rows, np.ones(30, bool), factors) == np.argmin(right, axis=0)).all()


def test_it_is_right_where_the_nearest_picture_is_wrong():
    """Pictures of a wide base lie far from each other, and nearer to those of a narrow one."""
    rng = np.random.default_rng(1)
    wide, narrow = cloud(rng, 100, 16), cloud(rng, 100, 16, 0.3)
    images, all_sound = cloud(rng, 200, 16), np.ones(200, bool)
    nearest = FORMER.named(images, all_sound, FORMER.table_of([wide, narrow]))
    assert (nearest == 0).mean() < 0.4
    assert (likeliest(images, all_sound, factors_of([wide, narrow])) == 0).mean() > 0.95


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 1.0), (1, 1.0)],  # a picture each
        [(4, 1.0), (4, 1.0)],  # fewer than there are directions
        [(20, 0.0), (20, 1.0)],  # one base draws the same thing each time
        [(20, 0.0), (20, 0.0), (20, 0.0)],  # all do
    ],
)
def test_few_or_equal_pictures_make_a_gaussian_too(shapes):
    rng, d = np.random.default_rng(2), 256
    middles = [3.0 * rng.standard_normal(d) for _ in shapes]
    tables = [cloud(rng, n, d, spread, m) for (n, spread), m in zip(shapes, middles)]
    factors = factors_of(tables)
    assert np.isfinite(factors).all() and factors.shape[1] <= DIRECTIONS + 1
    for number, middle in enumerate(middles):
        images = cloud(rng, 10, d, 0.3, middle)
        assert (likeliest(images, np.ones(10, bool), factors) == number).all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t[:1].repeat(20, 0), "one and the same, so nothing tells them apart"),
        (lambda t: np.where(t > 1, np.inf, t), "not finite"),
        (lambda t: np.where(t > 1, np.nan, t), "not finite"),
    ],
)
def test_pictures_that_tell_nothing_are_refused(spoil, says):
    table = spoil(cloud(np.random.default_rng(3), 20, 8))
    with pytest.raises(SfumatoError, match=says) as told:
        factors_of([table, table])
    assert "\n" not in str(told.value)


def test_plain_greys_of_any_level_are_pictures_that_tell_nothing():
    """Of one contrast they differ by rounding alone, which no votes are paid for."""
    greys = np.arange(20, 60, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2)
    features = contrast(greys.repeat(3, 3))
    assert np.ptp(features, axis=0).any()
    with pytest.raises(SfumatoError, match="one and the same"):
        factors_of([features[:20], features[20:]])


def test_an_image_that_is_out_leaves_all_other_answers_to_the_last_bit():
    """Of bases that are equal but for rounding, so that the last bit decides."""
    rng, d = np.random.default_rng(4), 40
    table = cloud(rng, 50, d)
    factors = factors_of([table, table + np.float32(1e-6), table - np.float32(1e-6)])
    rows, sound = cloud(rng, 60, d), np.ones(60, bool)
    before = likeliest(rows, sound, factors)
    assert len(np.unique(before)) > 1
    for out in range(60):
        rest, gone = np.arange(60) != out, rows.copy()
        gone[out] = 0
        after = likeliest(gone, rest, factors)
        assert np.array_equal(before[rest], after[rest]) and after[out] == -1
    for strange in (np.nan, np.inf, 1e38):
        spoilt = rows.copy()
        spoilt[7, 3] = strange
        after = likeliest(spoilt, sound, factors)
        assert np.array_equal(np.delete(before, 7), np.delete(after, 7))
        assert (after[7] == -1) == (not np.isfinite(strange))


def test_the_features_of_a_picture_are_its_own_and_know_no_brightness():
    rng = np.random.default_rng(5)
    pictures = rng.integers(0, 120, (5, 32, 32, 3), dtype=np.uint8)
    found = contrast(pictures)
    assert found.shape == (5, 256) and abs(found.mean(1)).max() < 1e-5
    for i in range(5):
        other = rng.integers(0, 255, pictures.shape, dtype=np.uint8)
        other[i] = pictures[i]
        assert np.array_equal(contrast(other)[i], found[i])
    assert np.allclose(contrast(pictures + np.uint8(100)), found, atol=1e-4)
    assert np.allclose(contrast(pictures.repeat(2, 1).repeat(2, 2)), found, atol=1e-4)
    assert np.abs(contrast(np.full((1, 32, 32, 3), 90, np.uint8))).max() < 1e-5
