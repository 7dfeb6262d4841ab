from __future__ import annotations

import numpy as np
import pytest

from mistline.tasks.small_network import Sizes, _forward, _gradients, _loss, _start, predict, train


def test_slopes_are_those_of_the_loss():
    rng = np.random.default_rng(0)
    weights = [item.astype(np.float64) for item in _start(4, 6, 3, rng)]
    points, labels = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    slopes = _gradients(weights, points, labels)
    for number, item in enumerate(weights):
        place = tuple(rng.integers(0, size) for size in item.shape)
        losses = []
        for move in (1e-5, -2e-5):
            item[place] += move
            losses.append(_loss(_forward(weights, points)[1], labels))
        item[place] += 1e-5
        assert slopes[number][place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_it_learns_what_no_line_separates():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (600, 2)).astype(np.float32)
    labels = (points[:, 0] * points[:, 1] > 0).astype(np.int64)
    half = slice(0, 400), slice(400, 600)
    weights, epoch = train(
        tuple(points[part] for part in half), tuple(labels[part] for part in half), 2, Sizes(64, 150, 20), rng
    )
    assert 1 <= epoch <= 150
    assert (predict(weights, points[half[1]]).argmax(axis=1) == labels[half[1]]).mean() > 0.95


def test_validation_cells_that_tell_nothing_are_not_looked_at():
    rng = np.random.default_rng(2)
    points, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 2, 50)

    def trained(more):
        val = (points[:10], np.concatenate([labels[:10], np.array(more, dtype=np.int64)]))
        far = np.concatenate([val[0], np.full((len(more), 3), 1e3, dtype=np.float32)])
        return train((points, far), (labels, val[1]), 2, Sizes(8, 20, 3), np.random.default_rng(0))

    (one, first), (two, second) = trained([]), trained([-1, -1])
    assert first == second
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_cell_to_predict():
    assert predict(_start(3, 4, 2, np.random.default_rng(0)), np.empty((0, 3), dtype=np.float32)).shape == (0, 2)
