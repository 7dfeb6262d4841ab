from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, wasserstein_distance
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mistline.tasks.generation_distances import (
    correlations,
    frechet,
    kernel_distance,
    kernel_gaps,
    nearest,
    psnr,
    ssim,
    wasserstein,
)
from mistline.tasks.generation_features import fit_features
from mistline.tasks.generation_probe import fit_probe

ONE = np.ones((1, 400))


@pytest.fixture(scope="module")
def tables() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 4)), rng.normal(size=(400, 4))


@pytest.mark.parametrize("shape", [(3, 1, 24, 24), (2, 3, 33, 33)])
def test_pixels_are_compared_as_in_scikit_image(shape):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 256, shape).astype(np.uint8)
    drawn = np.clip(truth + rng.normal(0, 25, shape), 0, 255).astype(np.uint8)
    for number, pair in enumerate(zip(truth / 255, drawn / 255, strict=True)):
        expected = structural_similarity(
            *pair, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        assert ssim(truth, drawn)[number] == pytest.approx(expected, abs=1e-9)
        assert psnr(truth, drawn)[number] == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1))


def test_equal_images_have_the_cap_and_structure_one():
    images = np.random.default_rng(2).integers(0, 256, (2, 1, 16, 16)).astype(np.uint8)
    assert psnr(images, images).tolist() == [100, 100]
    assert ssim(images, images) == pytest.approx(1)
    closest = images.copy()
    closest[:, 0, 0, 0] ^= 1
    assert (psnr(images, closest) < 100).all()


def test_frechet_of_normal_tables_has_its_closed_form(tables):
    first, _ = tables
    assert frechet(first, first, ONE) == pytest.approx(0, abs=1e-9)
    assert frechet(first, first + 2, ONE) == pytest.approx(16)  # 4 columns, each 2 away
    doubled = frechet(first - first.mean(axis=0), 2 * (first - first.mean(axis=0)), ONE)
    assert doubled == pytest.approx(np.trace(np.cov(first.T)))  # (2 s - s)^2 of each
    halves = np.repeat([[1.0, 0.0]], 200, axis=1).reshape(1, -1)
    kept = halves[0] > 0
    assert frechet(first, first**2, halves) == pytest.approx(frechet(first[kept], first[kept] ** 2, ONE[:, :200]))


def test_kernel_distance_is_unbiased_also_where_a_cell_is_drawn_twice(tables):
    first, second = tables
    gaps = kernel_gaps(first, second)
    drawn = np.random.default_rng(3).integers(400, size=(200, 400))
    weights = np.array([np.bincount(row, minlength=400) for row in drawn], dtype=float)
    assert kernel_distance(kernel_gaps(first, first), ONE) == pytest.approx(0, abs=1e-12)
    assert abs(kernel_distance(gaps, ONE)[0]) < 0.05
    assert abs(kernel_distance(gaps, weights).mean()) < 0.1
    assert kernel_distance(kernel_gaps(first, second + 1), ONE)[0] > 1
    pairs = [gaps[i, j] for i in range(400) for j in range(400) if i != j]
    assert kernel_distance(gaps, ONE)[0] == pytest.approx(np.mean(pairs))


def test_columns_are_compared_as_in_scipy(tables):
    first, second = tables
    second = second + 0.5 * first
    rows = np.random.default_rng(4).integers(400, size=(3, 400))
    weights = np.array([np.bincount(row, minlength=400) for row in rows], dtype=float)
    for number, row in enumerate(rows):
        for column in range(4):
            a, b = first[row, column], second[row, column]
            assert wasserstein(first, second, rows)[number, column] == pytest.approx(wasserstein_distance(a, b))
            assert correlations(first, second, weights)[number, column] == pytest.approx(pearsonr(a, b)[0])


def test_a_constant_truth_is_left_out_and_a_constant_answer_counts_nothing(tables):
    first, _ = tables
    flat = np.full_like(first, 3.3)
    assert np.isnan(correlations(flat, first, ONE)).all()
    assert (correlations(first, flat, ONE) == 0).all()


def test_the_net_keeps_what_real_images_vary_in_at_one_scale():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:24, :24] - 11.5
    size, light, shift = rng.uniform(3, 8, 300), rng.uniform(80, 220, 300), rng.uniform(-3, 3, 300)
    disc = np.hypot(y, x + shift[:, None, None]) < size[:, None, None]
    images = np.clip(disc * light[:, None, None] + rng.uniform(0, 9, disc.shape), 0, 255).astype(np.uint8)[:, None]
    net = fit_features(images[:150])
    points = net.of(images[:150])
    assert np.cov(points.T) == pytest.approx(np.eye(points.shape[1]), abs=1e-6)
    assert 2 <= points.shape[1] <= 32
    assert (net.shares[2:] >= 0.005).all()
    # Held-out images of the same kind are no further than chance: no component is made of noise.
    apart = frechet(net.of(images[150:]), points, ONE[:, :150])[0]
    assert apart < 2
    inverted = frechet(net.of(255 - images[150:]), points, ONE[:, :150])[0]
    assert inverted > 10 * apart
    distance, place = nearest(points[[3, 7]], points)
    assert place.tolist() == [3, 7]
    assert distance == pytest.approx(0, abs=1e-5)
    assert np.array_equal(net.of(images[:5]), fit_features(images[:150]).of(images[:5]))


def test_the_probe_reads_what_images_tell():
    rng = np.random.default_rng(6)
    features, nucleus = rng.normal(size=(300, 8)), rng.normal(size=(300, 3))
    genes = np.column_stack([2 * features[:, 0] + 5 * nucleus[:, 1] + 3, rng.normal(size=300)])
    probe = fit_probe(features[:200], nucleus[:200], genes[:200])
    told = probe.read(features[200:], nucleus[200:])
    assert np.corrcoef(told[:, 0], genes[200:, 0])[0, 1] > 0.99
    assert told[:, 0] == pytest.approx(genes[200:, 0], abs=0.6)
