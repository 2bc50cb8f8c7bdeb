"""Distances against closed forms, brute force and scikit-learn's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from sfumato.errors import SfumatoError
from sfumato.evaluation import (
    Extractor,
    compare,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)


def normal(n, d, seed=0, scale=1.0, shift=0.0):
    return np.random.Generator(np.random.PCG64(seed)).normal(shift, scale, (n, d))


def exact_moments(n, covariance, mean, seed=0):
    """Rows whose sample mean and covariance are exactly the given ones."""
    x = normal(n, len(mean), seed)
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_frechet_closed_form_diagonal():
    one, two = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    mean = np.array([1.0, -2.0, 0.5])
    a, b = exact_moments(50, np.diag(one), 0 * mean), exact_moments(70, np.diag(two), mean, seed=1)
    expected = (mean**2).sum() + ((np.sqrt(one) - np.sqrt(two)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_agrees_with_matrix_square_root_and_is_symmetric():
    a = normal(80, 6) @ normal(6, 6, 1)
    b = normal(90, 6, 2) @ normal(6, 6, 3) + 1
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.trace(sqrtm(one @ two)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_frechet_zero_singular_and_one_dimension():
    a = normal(40, 5)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    flat = np.concatenate([a, a[:, :2], np.zeros((40, 1))], axis=1)
    assert frechet_distance(flat, flat + 2) == pytest.approx(4 * 8, rel=1e-6)
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [3.0]])) == pytest.approx(
        4 + 2
    )


def test_kernel_distance_equals_the_double_sum():
    x, y = normal(12, 3), normal(12, 3, 1, shift=0.5)

    def kernel(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(12) for j in range(12)]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (12 * 11)
    between = sum(kernel(x[i], y[j]) for i, j in pairs) / 144
    result = kernel_distance(x, y, blocks=1)
    assert result.mean == pytest.approx(within - 2 * between, rel=1e-10)
    assert result.std is None and (result.blocks, result.block_size) == (1, 12)


def test_kernel_distance_is_unbiased_and_repeats():
    same = kernel_distance(normal(2000, 4), normal(2000, 4, 1), blocks=20)
    assert abs(same.mean) < 4 * same.std / np.sqrt(20)
    far = kernel_distance(normal(500, 4), normal(400, 4, 1, shift=1))
    assert (far.blocks, far.block_size) == (10, 40) and far.mean > 5 * far.std / np.sqrt(10)
    assert far == kernel_distance(normal(500, 4), normal(400, 4, 1, shift=1))


def test_distances_grow_with_noise():
    real, other = normal(600, 4), normal(600, 4, 1)
    noisy = [other + normal(600, 4, 2, scale=s) for s in (0.0, 0.5, 1.0, 2.0)]
    for distance in (frechet_distance, lambda a, b: kernel_distance(a, b).mean):
        values = [distance(real, x) for x in noisy]
        assert values == sorted(values)
    shares = [precision_recall_density_coverage(real, x) for x in noisy]
    for key in ("precision", "density", "coverage"):
        values = [getattr(s, key) for s in shares]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifold_against_brute_force(k):
    from sklearn.neighbors import NearestNeighbors

    real, fake = normal(70, 3), normal(50, 3, 1, scale=1.3, shift=0.3)
    distance = np.linalg.norm(real[:, None] - fake[None], axis=2)
    radius = {
        key: NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]
        for key, x in (("r", real), ("f", fake))
    }
    inside = distance < radius["r"][:, None]
    result = precision_recall_density_coverage(real, fake, k=k)
    assert result.precision == pytest.approx(inside.any(0).mean())
    assert result.recall == pytest.approx((distance < radius["f"][None]).any(1).mean())
    assert result.density == pytest.approx(inside.sum() / (k * 50))
    assert result.coverage == pytest.approx((distance.min(1) < radius["r"]).mean())
    assert result[4:] == (k, 70, 50)


def test_manifold_extremes_and_chunks():
    real = normal(1100, 2)
    same = precision_recall_density_coverage(real, real)
    assert same.precision == same.recall == same.coverage == 1
    far = precision_recall_density_coverage(real, real + 100)
    assert far[:4] == (0, 0, 0, 0)
    assert precision_recall_density_coverage(real + 1e4, real + 1e4).coverage == 1


def test_compare_bears_the_name_and_the_counts():
    def mean_colour(images):
        return images.reshape(len(images), -1)[:, :4] / 255

    generator = np.random.Generator(np.random.PCG64(0))
    images = generator.integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    text = str(compare(Extractor("first-pixels", mean_colour), images[:40], images[40:]))
    assert (
        "FD-first-pixels" in text
        and "KD-first-pixels" in text
        and "FID" not in text
        and "KID" not in text
    )
    assert "n = 40 real, 20 synthetic" in text and "read the order only" in text
    with pytest.raises(SfumatoError):
        compare(mean_colour, images[:40], images[40:])


def test_bad_features_are_refused():
    a = normal(10, 3)
    for bad in (normal(10, 2), a[0], a[:1], np.full((10, 3), np.nan)):
        with pytest.raises(SfumatoError):
            frechet_distance(a, bad)
    with pytest.raises(SfumatoError):
        precision_recall_density_coverage(a, a[:5], k=5)
    with pytest.raises(SfumatoError):
        kernel_distance(a, a, block_size=1)
