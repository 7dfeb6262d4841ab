from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mistline.core.errors import InputError
from mistline.graphs.build import delaunay, hexagonal, nearest, nearest_others, radius

BUILDERS = {
    "nearest": lambda xy: nearest(xy, 3),
    "radius": lambda xy: radius(xy, 20.0),
    "delaunay": delaunay,
}


def honeycomb(rows: int = 12, columns: int = 10) -> np.ndarray:
    return np.array([(y, 2 * x + y % 2) for y in range(rows) for x in range(columns)])


def test_a_spot_inside_a_honeycomb_has_its_six_nearest():
    array = honeycomb()
    graph = hexagonal(array)
    xy = np.column_stack([array[:, 1] / 2, array[:, 0] * np.sqrt(3) / 2])
    near = cdist(xy, xy) < 1.01
    np.fill_diagonal(near, False)
    np.testing.assert_array_equal(graph.toarray(), near)
    assert graph.sum(axis=1).max() == 6


def test_the_ring_does_not_wrap_around_the_array():
    graph = hexagonal(np.array([(0, 126), (1, 1), (0, 0), (2, 0)]))
    assert graph.nnz == 4  # (1, 1) with (0, 0) and (2, 0)


def test_two_spots_at_one_place_of_the_array_are_refused():
    with pytest.raises(InputError, match="share a place"):
        hexagonal(np.array([(0, 0), (0, 0)]))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 60])
def test_graphs_are_symmetric_without_loops_and_follow_a_permutation(name, n):
    rng = np.random.default_rng(n)
    xy = rng.uniform(0, 100, (n, 2))
    graph = BUILDERS[name](xy)
    assert graph.shape == (n, n)
    assert (graph != graph.T).nnz == 0
    assert not graph.diagonal().any()
    order = rng.permutation(n)
    np.testing.assert_array_equal(BUILDERS[name](xy[order]).toarray(), graph.toarray()[np.ix_(order, order)])


@pytest.mark.parametrize("name", BUILDERS)
def test_cells_at_one_place(name):
    xy = np.array([(0.0, 0.0), (0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (5.0, 5.0), (5.0, 5.0)])
    graph = BUILDERS[name](xy)
    assert not graph.diagonal().any()
    assert graph[0, 1]
    assert graph[4, 5]


@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 1000))
def test_every_cell_has_its_nearest(n, k, seed):
    xy = np.random.default_rng(seed).uniform(0, 1, (n, 2))
    graph = nearest(xy, k).toarray()
    distance = cdist(xy, xy)
    np.fill_diagonal(distance, np.inf)
    for cell in range(n):
        assert graph[cell, np.argsort(distance[cell])[: min(k, n - 1)]].all()


@pytest.mark.parametrize("n", [0, 1, 2, 5, 40])
def test_no_cell_is_among_its_nearest_others_though_places_are_doubled(n):
    xy = np.random.default_rng(n).uniform(0, 1, (n, 2)).repeat(2, axis=0)[:n]
    near = nearest_others(xy, 4)
    assert near.shape == (n, min(4, max(n - 1, 0)))
    assert not (near == np.arange(n)[:, None]).any()
    distance = cdist(xy, xy) + np.diag(np.full(n, np.inf))
    found = np.take_along_axis(distance, near, axis=1)
    np.testing.assert_array_equal(found, np.sort(distance, axis=1)[:, : near.shape[1]])


def test_a_long_edge_over_a_hole_is_no_neighbour():
    rng = np.random.default_rng(0)
    left, right = rng.uniform(0, 10, (50, 2)), rng.uniform((200, 0), (210, 10), (50, 2))
    graph = delaunay(np.concatenate([left, right]))
    assert not graph[:50, 50:].nnz


def test_cells_on_a_line():
    graph = delaunay(np.column_stack([np.arange(5.0), np.arange(5.0)]))
    assert graph[0, 1]
    assert (graph != graph.T).nnz == 0
