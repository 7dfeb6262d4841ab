from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.tasks.predicted import by_fold, rows_of

CELLS = pd.DataFrame({"slide": ["a", "a", "b"], "cell_id": ["1", "2", "1"]})


def _table(rows):
    return pd.DataFrame(rows, columns=["slide", "cell_id", "fold", "part", "p_y", "p_x"])


def test_a_cell_is_its_slide_and_its_id():
    asked = pd.DataFrame({"slide": ["b", "c", "a"], "cell_id": ["1", "1", "2"]})
    assert rows_of(CELLS, asked).tolist() == [2, -1, 1]


def test_probabilities_stand_in_the_order_of_the_classes_and_of_the_cells():
    table = _table([["b", "1", 0, "test", 0.9, 0.1], ["a", "1", 0, "val", 0.2, 0.8], ["a", "2", 1, "test", 0.5, 0.5]])
    found = by_fold(table, CELLS, {0: np.array([2]), 1: np.array([1])}, ("x", "y"))
    np.testing.assert_allclose(found[0], [[0.8, 0.2], [0, 0], [0.1, 0.9]])
    np.testing.assert_allclose(found[1], [[0, 0], [0.5, 0.5], [0, 0]])


def test_what_was_not_answered_is_refused():
    table = _table([["b", "1", 0, "test", 0.9, 0.1]])
    with pytest.raises(InputError, match="1 test cells of fold 0 have none"):
        by_fold(table, CELLS, {0: np.array([0, 2])}, ("x", "y"))
    with pytest.raises(InputError, match="they are of the classes y, x, the labels of x, z"):
        by_fold(table, CELLS, {0: np.array([2])}, ("x", "z"))
