from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans

from mistline.core.errors import InputError
from mistline.mist.kmeans import Settings, fit_kmeans, group_sums, lloyd, spread
from mistline.mist.nearest import assign


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
    start = np.array([[0, 0], [0, 0], [0, 0]], dtype=np.float32)
    centres = lloyd(x, start, 20)
    assert sorted(centres[:, 0].tolist()) == [-70.0, 0.0, 100.0]


def test_starts_are_distinct_and_spread_wider_than_chance():
    x = points(2000)
    chosen = spread(x, 25, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 25
    by_chance = [np.random.default_rng(i).choice(2000, 25, replace=False) for i in range(20)]
    away = [_distance(x, rows) for rows in by_chance]
    assert _distance(x, chosen) < min(away)


def _distance(x: np.ndarray, rows: np.ndarray) -> float:
    return float(((x[:, None] - x[rows][None]) ** 2).sum(axis=2).min(axis=1).mean())


def test_a_sample_of_the_points_is_seen_first_and_all_points_at_the_end():
    x = points(4000)
    found = fit_kmeans(x, 8, Settings(1, 40, 0), "t")  # 512 of the 4,000 points warm the centres up
    for k in range(8):
        np.testing.assert_allclose(found.centres[k], x[found.labels == k].mean(axis=0), atol=1e-3)
    np.testing.assert_array_equal(found.labels, assign(x, found.centres))


def test_fewer_distinct_points_than_centres_leave_centres_empty_and_finite():
    x = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    found = fit_kmeans(x, 5, Settings(1, 5, 0), "t")
    assert np.isfinite(found.centres).all()
    assert found.inertia == 0.0


def test_more_centres_than_points_are_refused():
    with pytest.raises(InputError, match="metacells: 4 points for 5 centres; ask for at most 4"):
        fit_kmeans(points(4), 5, Settings(1, 5, 0), "metacells")


def test_sums_are_exact_whether_dense_or_sparse():
    x, labels = points(100), np.arange(100) % 7
    expected = np.array([x[labels == k].astype(np.float64).sum(axis=0) for k in range(7)])
    np.testing.assert_allclose(group_sums(x, labels, 7), expected)
    np.testing.assert_allclose(group_sums(sparse.csr_matrix(x), labels, 7), expected)
