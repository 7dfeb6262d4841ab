from __future__ import annotations

import numpy as np
import pytest

from mistline.tasks.leiden import communities, neighbour_graph


def _blobs(n: int = 300, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, k, n)
    return (5 * np.eye(k)[kind] + 0.4 * rng.normal(size=(n, k))).astype(np.float32), kind


def test_graph_is_symmetric_sparse_and_weighted_up_to_one():
    graph = neighbour_graph(_blobs()[0], 15)
    assert abs(graph - graph.T).max() < 1e-12
    assert graph.diagonal().sum() == 0
    assert graph.nnz <= 2 * 14 * 300
    assert 0.9 < graph.data.max() <= 1


def test_weights_of_a_cell_sum_to_log2_of_its_neighbours():
    from mistline.tasks.leiden import _fuzzy_weights

    distance = np.sort(np.random.default_rng(0).uniform(1, 3, (50, 14)), axis=1)
    np.testing.assert_allclose(_fuzzy_weights(distance, 15).sum(axis=1), np.log2(15), rtol=1e-6)


def test_planted_blobs_are_found_and_numbered_by_size():
    points, kind = _blobs()
    found = communities(neighbour_graph(points, 15), 0.3, 2, seed=0)
    assert sorted(np.bincount(found), reverse=True) == list(np.bincount(found))
    assert len({(a, b) for a, b in zip(found, kind, strict=True)}) == 3


def test_same_seed_same_clusters():
    graph = neighbour_graph(np.random.default_rng(1).normal(size=(400, 5)), 15)
    np.testing.assert_array_equal(communities(graph, 1.0, 2, seed=5), communities(graph, 1.0, 2, seed=5))


@pytest.mark.parametrize("n_same", [5, 40])
def test_duplicates_are_no_own_neighbour_and_give_finite_weights(n_same):
    points = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    points[:n_same] = points[0]
    graph = neighbour_graph(points, 15)
    assert np.isfinite(graph.data).all()
    assert graph.diagonal().sum() == 0
    assert (np.diff(graph.indptr) >= 14).all()
