from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from mistline.core.errors import InputError
from mistline.xenium.tables import columns_of, n_rows, require_columns, stream_columns


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": range(1000), "b": range(1000), "c": "x"}).to_parquet(path, row_group_size=64, index=False)
    return path


def test_columns_stream_in_the_order_of_the_file(path):
    batches = list(stream_columns(path, ["b"]))
    assert all(batch.schema.names == ["b"] for batch in batches)
    assert pa.Table.from_batches(batches)["b"].to_pylist() == list(range(1000))


def test_header_alone(path):
    assert n_rows(path) == 1000
    assert list(columns_of(path)) == ["a", "b", "c"]


def test_missing_columns_are_named(path):
    with pytest.raises(InputError, match=r"column d, e is missing \(there are a, b, c\); use the table"):
        require_columns(path, ["a", "d", "e"])


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no.parquet: no such file; copy it from"):
        n_rows(tmp_path / "no.parquet")


def test_damage_inside_a_row_group_is_found_while_streaming(path):
    data = bytearray(path.read_bytes())
    data[10:2000] = b"\xff" * 1990
    path.write_bytes(data)
    assert n_rows(path) == 1000
    with pytest.raises(InputError, match=r"t.parquet: truncated or not a parquet file"):
        list(stream_columns(path, ["a"]))


def test_two_columns_of_one_name_are_refused(tmp_path):
    pa.parquet.write_table(pa.table([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t.parquet: two columns have one name"):
        columns_of(tmp_path / "t.parquet")
