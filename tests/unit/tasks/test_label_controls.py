from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from mistline.tasks.label_controls import linear_probe, majority, nearest_alike, nearest_labels, neighbour_mean


def test_majority_gives_the_shares_of_the_training_labels():
    np.testing.assert_allclose(majority(np.array([0, 2, 2, 2]), 2, 4), [[0.25, 0, 0.75, 0]] * 2)


def test_nearest_labels_vote_by_the_inverse_of_their_distance():
    train_xy = np.array([[0.0, 0], [3, 0], [100, 0], [101, 0]])
    train = np.array([0, 1, 2, 2])
    nobody = np.empty((0, 2)), np.empty(0, dtype=np.int64)
    share, k = nearest_labels(train_xy[:2], train[:2], *nobody, np.array([[1.0, 0]]), 3)
    assert k == 2  # no validation cell: five, or as many as there are
    np.testing.assert_allclose(share, [[1 / (1 + 1 / 2), 0.5 / 1.5, 0]])


def test_the_number_of_neighbours_is_chosen_on_validation_cells():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1, (400, 2))
    noisy = np.where(rng.uniform(size=400) < 0.3, rng.integers(0, 2, 400), xy[:, 0] > 0.5).astype(np.int64)
    clean_val = rng.uniform(0, 1, (200, 2))
    _, k = nearest_labels(xy, noisy, clean_val, (clean_val[:, 0] > 0.5).astype(np.int64), xy, 2)
    assert k > 3
    _, own = nearest_labels(xy, noisy, xy, noisy, xy, 2)
    assert own == 1


def test_cells_at_one_place_share_the_vote():
    xy = np.zeros((2, 2))
    share, _ = nearest_labels(xy, np.array([0, 1]), xy[:0], np.array([], dtype=np.int64), xy[:1], 2)
    np.testing.assert_allclose(share, [[0.5, 0.5]])


def _rows(*ends: int) -> dict[str, np.ndarray]:
    return {part: np.arange(*span) for part, span in zip(("train", "val", "test"), pairwise([0, *ends]), strict=True)}


def test_the_nearest_cells_of_a_representation_vote_alike():
    points = np.array([[0.0], [3], [100], [1]], dtype=np.float32)
    share, k = nearest_alike(points, np.array([0, 1, 2, -1]), _rows(3, 3, 4), 3, seed=0)
    assert k == 3  # no validation cell: five, or as many as there are
    np.testing.assert_allclose(share, [[0, 0, 0]] * 3 + [[1 / 3] * 3])


def test_how_many_vote_is_chosen_on_validation_cells_and_of_a_draw_where_there_are_many(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (700, 2)).astype(np.float32)
    labels = (points[:, 0] > 0.5).astype(np.int64)
    labels[:400] = np.where(rng.uniform(size=400) < 0.3, 1 - labels[:400], labels[:400])
    share, k = nearest_alike(points, labels, _rows(400, 600, 700), 2, seed=0)
    assert k > 3
    assert (share[600:].argmax(axis=1) == labels[600:]).mean() > 0.9
    monkeypatch.setattr("mistline.tasks.label_controls.MOST_SEARCHED", 20)
    drawn = [nearest_alike(points, labels, _rows(400, 600, 700), 2, seed=seed)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_probe_knows_the_classes_of_its_training_cells_only():
    points = np.array([[-2.0], [-1], [1], [2], [0.5]], dtype=np.float32)
    found = linear_probe(points, np.array([0, 0, 2, 2]), np.arange(4), 4)
    assert found.argmax(axis=1).tolist() == [0, 0, 2, 2, 2]
    assert (found[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert linear_probe(points, np.array([3, 3]), np.array([0, 1]), 4)[:, 3].tolist() == [1] * 5


def test_a_probe_does_not_see_other_cells():
    rng = np.random.default_rng(0)
    points, rows = rng.normal(size=(40, 5)).astype(np.float32), np.arange(20)
    train = rng.integers(0, 3, 20)
    before = linear_probe(points, train, rows, 3)
    other = points.copy()
    other[30:] += 100
    np.testing.assert_array_equal(linear_probe(other, train, rows, 3)[:30], before[:30])


@pytest.mark.parametrize("dtype", [bool, np.int8])
def test_the_mean_is_over_a_cell_and_its_neighbours(dtype):
    line = sparse.csr_matrix(np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=dtype))
    points = np.array([[0.0], [3], [9], [7]], dtype=np.float32)
    np.testing.assert_allclose(neighbour_mean(points, line.astype(bool)).ravel(), [1.5, 4, 6, 7])
