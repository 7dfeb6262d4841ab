from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from mistline.core.errors import InputError
from mistline.mist.kmeans import Settings, assign, fit_kmeans, group_sums, squared_distances


def points(n: int = 6000, p: int = 10, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(25, p)) * np.linspace(4, 0.5, p)
    return (centres[rng.integers(0, 25, n)] + 0.5 * rng.normal(size=(n, p))).astype(np.float32)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_bits_do_not_depend_on_the_threads(threads):
    x = points()
    one = fit_kmeans(x, 40, Settings(2, 8, seed=1, threads=1), "t")
    many = fit_kmeans(x, 40, Settings(2, 8, seed=1, threads=threads), "t")
    assert one.centres.tobytes() == many.centres.tobytes()
    assert one.labels.tobytes() == many.labels.tobytes()
    assert one.inertia == many.inertia


def test_it_is_about_as_tight_as_the_library():
    x = points()
    ours = fit_kmeans(x, 40, Settings(3, 30, seed=0), "t").inertia
    theirs = KMeans(40, init="random", n_init=3, max_iter=30, random_state=0).fit(x).inertia_ / len(x)
    assert ours <= 1.03 * theirs


def test_more_restarts_are_never_worse():
    x = points(1000)
    assert fit_kmeans(x, 20, Settings(6, 8, 0), "t").inertia <= fit_kmeans(x, 20, Settings(1, 8, 0), "t").inertia


def test_converged_centres_are_the_means_of_their_points():
    x = points(800)
    found = fit_kmeans(x, 6, Settings(1, 200, 0), "t")
    for k in range(6):
        np.testing.assert_allclose(found.centres[k], x[found.labels == k].mean(axis=0), atol=1e-4)


def test_the_seed_and_the_purpose_decide():
    x = points(500)
    runs = [fit_kmeans(x, 9, Settings(1, 2, seed), purpose).centres for seed, purpose in ((0, "a"), (1, "a"), (0, "b"))]
    assert not np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_centre_without_points_is_given_the_farthest_one():
    x = np.concatenate([np.zeros((50, 2)), np.full((1, 2), 100.0), np.full((1, 2), -70.0)]).astype(np.float32)
    found = fit_kmeans(x, 3, Settings(1, 20, 0), "t")
    assert np.bincount(found.labels, minlength=3).tolist().count(0) == 0
    assert found.inertia == pytest.approx(0.0, abs=1e-9)


def test_fewer_distinct_points_than_centres_leave_centres_empty_and_finite():
    x = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    found = fit_kmeans(x, 5, Settings(1, 5, 0), "t")
    assert np.isfinite(found.centres).all()
    assert found.inertia == 0.0


def test_more_centres_than_points_are_refused():
    with pytest.raises(InputError, match="metacells: 4 points for 5 centres; ask for at most 4"):
        fit_kmeans(points(4), 5, Settings(1, 5, 0), "metacells")


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


def test_distances_and_sums_are_exact():
    x, centres = points(100), points(7, seed=3)
    labels = assign(x, centres)
    difference = x.astype(np.float64) - centres[labels]
    np.testing.assert_allclose(squared_distances(x, centres, labels), (difference**2).sum(axis=1))
    expected = np.array([x[labels == k].astype(np.float64).sum(axis=0) for k in range(7)])
    np.testing.assert_allclose(group_sums(x, labels, 7), expected)
    np.testing.assert_allclose(group_sums(sparse.csr_matrix(x), labels, 7), expected)
