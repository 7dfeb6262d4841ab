from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mistline.tasks.probes import NEIGHBOURS, PROBES, Task, nearest, network
from mistline.tasks.small_network import Sizes

SIZES = Sizes(hidden=32, epochs=200)


def _problem(n: int = 240, noise: float = 0.3, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    points = (4 * np.eye(3)[labels] + noise * rng.normal(size=(n, 3))).astype(np.float32)
    rows = rng.permutation(n)
    return points, Task(labels, np.sort(rows[: n // 2]), np.sort(rows[n // 2 : n // 2 + 30]), 4, sizes=SIZES)


@pytest.mark.parametrize("name", PROBES)
def test_planted_classes_are_found(name):
    points, task = _problem()
    found = PROBES[name](points, task)
    assert found.val_macro_f1 == 1
    assert (found.probability.argmax(axis=1) == task.labels).mean() > 0.99
    np.testing.assert_allclose(found.probability.sum(axis=1), 1, rtol=1e-5)
    assert not found.probability[:, 3].any()  # no cell of the fourth class is trained on


@pytest.mark.parametrize("name", PROBES)
def test_labels_of_other_cells_change_no_bit(name):
    points, task = _problem(noise=2.0)
    others = np.setdiff1d(np.arange(len(points)), np.concatenate([task.train, task.val]))
    labels = task.labels.copy()
    labels[others] = np.random.default_rng(1).permutation(labels[others])
    assert (labels != task.labels).any()
    before, after = PROBES[name](points, task), PROBES[name](points, replace(task, labels=labels))
    np.testing.assert_array_equal(before.probability, after.probability)
    assert (before.val_macro_f1, before.about) == (after.val_macro_f1, after.about)


@pytest.mark.parametrize("name", PROBES)
def test_features_of_other_cells_change_no_other_prediction(name):
    points, task = _problem(noise=2.0)
    seen = np.concatenate([task.train, task.val])
    moved = points.copy()
    moved[np.setdiff1d(np.arange(len(points)), seen)] *= 100
    before, after = PROBES[name](points, task), PROBES[name](moved, task)
    np.testing.assert_allclose(before.probability[seen], after.probability[seen], rtol=1e-5, atol=1e-7)
    assert before.about == after.about


@pytest.mark.parametrize("name", PROBES)
def test_a_single_class_among_training_cells(name):
    points, task = _problem()
    labels = task.labels.copy()
    labels[task.train] = 2
    labels[task.val] = 2
    found = PROBES[name](points, replace(task, labels=labels))
    assert (found.probability[:, 2] == 1).all()


def test_the_nearest_cell_decides_by_hand():
    points = np.array([[0], [1], [10], [11], [0.4], [10.4]], dtype=np.float32)
    task = Task(np.array([0, 0, 1, 1, 0, 1]), np.arange(4), np.array([4, 5]), 2)
    found = nearest(points, task)
    assert found.about == {"n_neighbors": 1}
    assert found.probability.argmax(axis=1).tolist() == [0, 0, 1, 1, 0, 1]


def test_the_number_of_neighbours_is_one_that_there_are():
    points, task = _problem(n=24)
    assert nearest(points, task).about["n_neighbors"] in [k for k in NEIGHBOURS if k <= 12]


def test_the_network_stops_and_keeps_its_best_epoch():
    points, task = _problem(noise=3.0)
    found = network(points, replace(task, sizes=Sizes(256, 200, 5)))
    assert 1 <= found.about["epochs"] < 190
    cut = network(points, replace(task, sizes=Sizes(256, found.about["epochs"], 5)))
    np.testing.assert_array_equal(cut.probability, found.probability)


def test_the_network_repeats_by_its_seed():
    points, task = _problem(noise=2.0)
    one, two, other = (network(points, replace(task, seed=seed)).probability for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
