"""A division of cells into folds, as memory and files hold it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.store.folds import division, encode, is_ever, is_part, numbers, read_folds, require_same
from mistline.store.parts import PARTS

CELLS = pd.DataFrame({"slide": list("aab"), "cell_id": ["1", "2", "1"]})


@pytest.fixture
def table() -> pd.DataFrame:
    codes = {10: encode(np.array(["train", "val", "test"])), 2: encode(np.array(["test", "unlabelled", None]))}
    return division(CELLS, codes)


def test_a_file_gives_back_what_was_written(table, tmp_path):
    write_parquet(tmp_path / "folds.parquet", table)
    found = read_folds(tmp_path / "folds.parquet")
    pd.testing.assert_frame_equal(found, table)
    assert {str(found[str(fold)].dtype.categories.tolist()) for fold in numbers(found)} == {str(list(PARTS))}


def test_cells_are_found_by_fold_and_part(table):
    assert numbers(table) == [2, 10]
    assert is_part(table, 2, "test").tolist() == [True, False, False]
    assert is_part(table, 10, "train", "val").tolist() == [True, True, False]
    assert is_ever(table, "test").tolist() == [True, False, True]
    assert is_ever(table, *PARTS).tolist() == [True] * 3


def test_a_fold_takes_a_byte_a_cell():
    cells = pd.DataFrame({"slide": "a", "cell_id": np.arange(10_000).astype(str)})
    one, many = (division(cells, dict.fromkeys(range(n), np.zeros(len(cells), dtype=np.int8))) for n in (1, 101))
    grown = many.memory_usage(deep=True).sum() - one.memory_usage(deep=True).sum()
    assert grown < 1.1 * 100 * len(cells)


@pytest.mark.parametrize("other", [CELLS[::-1].reset_index(drop=True), CELLS[:2], CELLS.assign(slide="a")])
def test_a_division_of_other_cells_is_refused(table, other):
    require_same(table, CELLS)
    with pytest.raises(InputError, match="their cells are not those of the dataset"):
        require_same(table, other)


@pytest.mark.parametrize("made", [lambda t: t.drop(columns="slide"), lambda t: t.rename(columns={"2": "part"})])
def test_another_table_is_refused(table, made, tmp_path):
    write_parquet(tmp_path / "folds.parquet", made(table))
    with pytest.raises(InputError, match="no division of cells"):
        read_folds(tmp_path / "folds.parquet")
