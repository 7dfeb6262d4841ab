from __future__ import annotations

import numpy as np
import pandas as pd

from mistline.tasks.places import comparable, nearest_mean


def _items(slides, splits, xy):
    return pd.DataFrame({"slide": slides, "split": splits, "x_um": xy[:, 0], "y_um": xy[:, 1]})


def test_nearest_mean_by_hand():
    xy = np.array([[0, 0], [4, 0], [10, 0], [1, 0]], dtype=float)
    values = np.array([[0.0, 1.0], [3.0, 1.0], [90.0, 5.0], [np.nan, np.nan]])
    split = np.array(["train", "train", "val", "test"], dtype=object)
    found, k = nearest_mean(xy, values, split)
    # The validation item is nearest to (4, 0), so one neighbour is best: its error is the smaller.
    assert k == 1
    np.testing.assert_allclose(found, [[0.0, 1.0]])
    found, k = nearest_mean(xy[[0, 1, 3]], values[[0, 1, 3]], split[[0, 1, 3]])
    assert k == 2
    np.testing.assert_allclose(found, [[(0 + 3) / 2, 1.0]])


def test_the_truth_of_test_items_is_not_read():
    rng = np.random.default_rng(0)
    xy, values = rng.uniform(size=(60, 2)), rng.uniform(size=(60, 3))
    split = np.repeat(np.array(["train", "val", "test"], dtype=object), 20)
    before = nearest_mean(xy, values, split)
    values[40:] = rng.permutation(values[40:])
    after = nearest_mean(xy, values, split)
    np.testing.assert_array_equal(before[0], after[0])


def test_places_of_slides_that_are_not_trained_on_are_scaled():
    xy = np.array([[0, 10], [100, 30], [7, 1000], [9, 3000]], dtype=float)
    apart = comparable(_items(["a", "a", "b", "b"], ["train", "train", "test", "test"], xy))
    np.testing.assert_allclose(apart, [[0, 0], [1, 1], [0, 0], [1, 1]])
    within = comparable(_items(["a", "a", "b", "b"], ["train", "test", "train", "test"], xy))
    assert np.linalg.norm(within[0] - within[2]) > 1000
    np.testing.assert_allclose(within[1] - within[0], [100, 20])
