from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances_argmin

from mistline.mist.nearest import BLOCK, assign, assign_with_distances, squared_distances
from tests.unit.mist.test_kmeans import points
from tests.unit.mist.traced import peak_bytes


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_assignment_is_that_of_the_library(scale):
    x, centres = points() * np.float32(scale), points(300, seed=1) * np.float32(scale)
    np.testing.assert_array_equal(assign(x, centres, threads=2), pairwise_distances_argmin(x, centres))


def test_far_from_the_origin_near_ties_are_decided_exactly():
    rng = np.random.default_rng(0)
    offset = np.float32(3000.0)
    centres = (offset + rng.integers(-8, 8, (60, 5))).astype(np.float32)
    x = (offset + rng.integers(-8, 8, (3000, 5)) + 0.25).astype(np.float32)
    exact = ((x[:, None].astype(np.float64) - centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(assign(x, centres), exact.argmin(axis=1))


def test_among_equals_the_first_centre_wins():
    centres = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert assign(np.array([[0.0, 5.0], [2.0, 0.0]], dtype=np.float32), centres).tolist() == [0, 0]


def test_no_points_have_no_labels():
    assert assign(np.zeros((0, 3), dtype=np.float32), np.eye(3, dtype=np.float32)).shape == (0,)


def test_distances_are_exact_and_come_with_the_same_labels():
    x, centres = points(100), points(7, seed=3)
    labels = assign(x, centres)
    difference = x.astype(np.float64) - centres[labels]
    np.testing.assert_allclose(squared_distances(x, centres, labels), (difference**2).sum(axis=1))
    again, distances = assign_with_distances(x, centres)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(distances, squared_distances(x, centres, labels))


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_of_points_meet_without_gaps(threads):
    x, centres = points(2 * BLOCK + 77), points(40, seed=2)
    np.testing.assert_array_equal(assign(x, centres, threads), pairwise_distances_argmin(x, centres))


def test_many_equal_centres_are_decided_a_few_rows_at_a_time():
    x = points(300)
    centres = np.repeat(points(3, seed=5), 2000, axis=0)  # 6,000 centres, 2,000 of them possible for every point
    assert (assign(x, centres) % 2000 == 0).all()
    np.testing.assert_array_equal(assign(x, centres) // 2000, assign(x, centres[::2000]))


def test_memory_grows_by_no_more_than_the_labels():
    x, centres = np.tile(points(BLOCK), (12, 1)), points(200, seed=2)
    few, many = (peak_bytes(lambda n=n: assign(x[:n], centres)) for n in (3 * BLOCK, 12 * BLOCK))
    labels = 9 * BLOCK * 4
    assert many - few < 2.5 * labels  # held in pieces, then as one
