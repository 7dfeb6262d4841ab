from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.xenium.cells import read_cells, refuse_duplicates
from tests.unit.xenium.conftest import make


def _read(tmp_path, table: pd.DataFrame) -> pd.DataFrame:
    path = tmp_path / "cells.parquet"
    table.to_parquet(path, index=False)
    return read_cells(path)


@pytest.mark.parametrize("layout", ["1.0", "1.3", "3.0"])
def test_names_carry_the_space_and_ids_are_text(tmp_path, layout):
    table = make(layout).cells
    cells = _read(tmp_path, table)
    assert list(cells) == ["cell_id", "x_um", "y_um", "cell_area_um2", "nucleus_area_um2", "transcript_counts"]
    assert cells["cell_id"].tolist() == [str(value) for value in table["cell_id"]]
    assert np.array_equal(cells["x_um"], table["x_centroid"])
    assert np.array_equal(cells["y_um"], table["y_centroid"])
    assert np.isnan(cells["nucleus_area_um2"]).tolist() == [number == 1 for number in range(48)]


def test_no_cell(tmp_path, bundle):
    with pytest.raises(InputError, match=r"cells.parquet: the table holds no cell; check the run"):
        _read(tmp_path, bundle.cells.iloc[:0])


def test_duplicate_ids(tmp_path, bundle):
    doubled = pd.concat([bundle.cells, bundle.cells.iloc[[3, 5]]])
    example = min(bundle.cells["cell_id"].iloc[[3, 5]])
    with pytest.raises(InputError, match=f"2 cell ids occur more than once, such as '{example}'; use the file"):
        _read(tmp_path, doubled)


def test_missing_column_is_named(tmp_path, bundle):
    with pytest.raises(InputError, match=r"column y_centroid is missing \(there are cell_id, x_centroid"):
        _read(tmp_path, bundle.cells.drop(columns="y_centroid"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_centroid_must_be_finite(tmp_path, bundle, value):
    bundle.cells.loc[4, "x_centroid"] = value
    example = bundle.cells["cell_id"][4]
    with pytest.raises(InputError, match=f"x_centroid is no finite number for 1 cells, such as '{example}'"):
        _read(tmp_path, bundle.cells)


def test_text_where_numbers_belong(tmp_path, bundle):
    bundle.cells["cell_area"] = bundle.cells["cell_area"].astype(str)
    with pytest.raises(InputError, match=r"column cell_area is stored as .*, not as numbers"):
        _read(tmp_path, bundle.cells)


def test_unique_ids_pass():
    refuse_duplicates(np.array(["a", "b"], dtype=object), "x")


def test_real_tables(real):
    for sample in range(1, 5):
        cells = read_cells(real / "xoa_v3_tables" / f"sample{sample}" / "cells.parquet")
        assert len(cells) == 10_000
        assert cells["cell_id"].str.fullmatch("[a-p]{8}-1").all()
        assert cells["transcript_counts"].gt(0).any()
