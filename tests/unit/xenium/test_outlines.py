from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.xenium.outlines import read_outlines

IDS = pd.Index(["a-1", "b-1", "c-1"])


def rows(cell: str, x: list[float], label: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"cell_id": cell, "vertex_x": x, "vertex_y": [v + 100 for v in x], "label_id": label})


def write(path, *parts, drop: str | None = None):
    table = pd.concat(parts, ignore_index=True)
    (table.drop(columns=drop) if drop else table).to_parquet(path, row_group_size=4)
    return path


def test_polygons_come_by_cell_with_vertices_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "b.parquet", rows("c-1", [9, 7, 8]), rows("other", [1, 2, 3]), rows("a-1", [3, 1, 2, 5, 4]))
    found = read_outlines(path, IDS)
    assert found.owner.tolist() == [0, 2]
    assert found.start.tolist() == [0, 5, 8]
    assert found.xy_um[:, 0].tolist() == [3, 1, 2, 5, 4, 9, 7, 8]
    assert (found.xy_um[:, 1] == found.xy_um[:, 0] + 100).all()


def test_a_cell_may_own_several_polygons_where_the_table_tells_them_apart(tmp_path):
    parts = rows("b-1", [1, 2, 3], 7), rows("a-1", [4, 5, 6], 3), rows("b-1", [7, 8, 9], 2)
    found = read_outlines(write(tmp_path / "with.parquet", *parts), IDS)
    assert found.owner.tolist() == [0, 1, 1]
    assert found.xy_um[:, 0].tolist() == [4, 5, 6, 7, 8, 9, 1, 2, 3]
    without = read_outlines(write(tmp_path / "without.parquet", *parts, drop="label_id"), IDS)
    assert without.owner.tolist() == [0, 1]
    assert without.xy_um[:, 0].tolist() == [4, 5, 6, 1, 2, 3, 7, 8, 9]


def test_no_polygon_of_these_cells_is_none(tmp_path):
    found = read_outlines(write(tmp_path / "b.parquet", rows("other", [1, 2, 3])), IDS)
    assert len(found) == 0
    assert found.start.tolist() == [0]


@pytest.mark.parametrize(("x", "sentence"), [([1, np.nan, 2], "no finite number"), ([1, None, 2], "not a number")])
def test_a_vertex_that_is_no_number_is_an_error(tmp_path, x, sentence):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"cell_id": ["a-1"] * 3, "vertex_x": pa.array(x, pa.float64()), "vertex_y": [1.0, 2.0, 3.0]})
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(InputError, match=sentence):
        read_outlines(tmp_path / "b.parquet", IDS)
