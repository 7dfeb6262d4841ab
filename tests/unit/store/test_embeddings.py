from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mistline.core.errors import InputError
from mistline.store import embeddings
from mistline.store.embeddings import EmbeddingWriter, Origin, read_blocks, read_embedding, read_origin

ORIGIN = Origin("pca", 3, "abc", "v1")


def _write(path, blocks):
    with EmbeddingWriter(path, ORIGIN) as writer:
        for ids, rows in blocks:
            writer.put(ids, rows)


def _blocks():
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    return [(["a", "b", "c", "d"], rows[:4]), (["e", "f"], rows[4:])]


def test_blocks_come_back_with_their_origin(tmp_path):
    path = tmp_path / "e.parquet"
    _write(path, _blocks())
    ids, rows = read_embedding(path)
    assert list(ids) == list("abcdef")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.arange(12).reshape(6, 2))
    assert read_origin(path) == ORIGIN
    assert [len(ids) for ids, _ in read_blocks(path)] == [6]
    assert pq.read_schema(path).names == ["cell_id", "e0", "e1"]


def test_same_rows_same_bytes(tmp_path):
    for name in ("one", "two"):
        _write(tmp_path / name, _blocks())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_blocks_of_any_size_make_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "_GROUP_ROWS", 100)
    rows = np.random.default_rng(0).normal(size=(250, 3)).astype(np.float32)
    ids = [f"c{number}" for number in range(250)]
    for size in (1, 7, 100, 249, 250):
        with EmbeddingWriter(tmp_path / f"{size}.parquet", ORIGIN) as writer:
            for start in range(0, 250, size):
                writer.put(ids[start : start + size], rows[start : start + size])
        file = pq.ParquetFile(tmp_path / f"{size}.parquet")
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [100, 100, 50]
        found, read = read_embedding(tmp_path / f"{size}.parquet")
        assert found.tolist() == ids
        assert np.array_equal(read, rows)
    assert len({(tmp_path / f"{size}.parquet").read_bytes() for size in (1, 7, 100, 249, 250)}) == 1


def test_the_memory_of_a_block_may_be_used_again(tmp_path):
    block = np.zeros((2, 3), dtype=np.float32)
    with EmbeddingWriter(tmp_path / "e.parquet", ORIGIN) as writer:
        for number in range(3):
            block[:] = number
            writer.put([f"a{number}", f"b{number}"], block)
    assert read_embedding(tmp_path / "e.parquet")[1][:, 0].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_names_the_cell_and_leaves_no_file(tmp_path, value):
    rows = np.zeros((2, 3), dtype=np.float32)
    rows[1, 2] = value
    with pytest.raises(InputError, match="cell second is not finite"):
        _write(tmp_path / "e.parquet", [(["first", "second"], rows)])
    assert list(tmp_path.iterdir()) == []


def test_no_row_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="no cell to embed"):
        _write(tmp_path / "e.parquet", [])
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_origin_and_a_damaged_file_are_refused(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"cell_id": ["a"], "e0": [1.0]}), path)
    with pytest.raises(InputError, match="does not say which model"):
        read_origin(path)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="not a readable parquet file"):
        read_origin(path)


def test_a_flipped_bit_in_the_numbers_is_told_by_a_checksum(tmp_path):
    path = tmp_path / "e.parquet"
    with EmbeddingWriter(path, Origin("m", 0, "w", "v")) as writer:
        writer.put([f"c{number}" for number in range(2000)], np.random.default_rng(0).random((2000, 4), np.float32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not a readable embedding .*checksum"):
        read_embedding(path)


def test_an_origin_of_other_types_is_refused(tmp_path):
    about = {b"mistline": b'{"model": 1, "seed": "a", "model_sha256": "", "dataset_version": ""}'}
    pq.write_table(pa.table({"cell_id": ["a"]}).replace_schema_metadata(about), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="does not say which model and dataset it was made from"):
        read_origin(tmp_path / "e.parquet")
