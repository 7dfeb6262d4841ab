"""What the stage says of a division, and what it refuses; whole runs are in `test_predict`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.stages.assign_folds import _count
from mistline.store.folds import division, encode

CELLS = pd.DataFrame({"slide": list("aabb"), "cell_id": list("1212")})
CODES = encode(np.array(["train", "test", "test", None]))


def test_cells_of_each_fold_and_part_are_counted():
    counted = _count("x", division(CELLS, {3: CODES}))
    assert counted == {"3": {"train": 1, "val": 0, "test": 2, "buffer": 0, "unlabelled": 0}}


def test_a_cell_that_is_there_twice_is_refused():
    with pytest.raises(InputError, match="a cell is in a fold twice"):
        _count("x", division(CELLS.assign(cell_id=list("1211")), {0: CODES}))


def test_folds_that_test_nothing_are_refused():
    with pytest.raises(InputError, match="fold 1 tests no cell"):
        _count("x", division(CELLS, {0: CODES, 1: encode(np.array(["train"] * 4))}))
    with pytest.raises(InputError, match="no fold can be made"):
        _count("x", division(CELLS, {}))
