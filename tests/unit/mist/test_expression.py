from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.mist import expression
from mistline.mist.expression import CountsFile, log_normalise


@pytest.fixture
def counts(tmp_path: Path) -> tuple[Path, np.ndarray]:
    dense = np.random.default_rng(0).poisson(0.5, (37, 11)).astype(np.int32)
    path = tmp_path / "counts.h5ad"
    anndata.AnnData(
        sparse.csr_matrix(dense),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(37)]),
        var=pd.DataFrame({"symbol": ["same"] * 11}, index=[f"g{i:02d}" for i in range(11)]),
    ).write_h5ad(path, compression="gzip")
    return path, dense


def test_blocks_are_the_rows_in_their_order(counts):
    path, dense = counts
    with CountsFile(path) as file:
        parts = [(start, block.toarray()) for start, block in file.blocks(10)]
        assert file.n_cells == 37
        assert file.cell_ids().tolist() == [f"c{i}" for i in range(37)]
        assert file.gene_ids.tolist() == [f"g{i:02d}" for i in range(11)]
        assert file.symbols.tolist() == ["same"] * 11
        np.testing.assert_array_equal(file.rows(5, 9).toarray(), dense[5:9])
    assert [start for start, _ in parts] == [0, 10, 20, 30]
    np.testing.assert_array_equal(np.concatenate([block for _, block in parts]), dense)


@pytest.mark.parametrize("rows", [[], [3], [0, 0, 9, 11, 36], [36, 2, 11, 2]])
def test_rows_are_taken_wherever_they_lie(counts, monkeypatch, rows):
    monkeypatch.setattr(expression, "BLOCK_ROWS", 10)
    path, dense = counts
    with CountsFile(path) as file:
        found = file.take(np.array(rows, dtype=np.int64))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.toarray(), dense[rows])


@pytest.mark.parametrize(("uns", "values"), [({}, "counts"), ({"values": "log"}, "log")])
def test_values_are_counts_unless_the_file_says_otherwise(counts, uns, values):
    path, _ = counts
    table = anndata.read_h5ad(path)
    table.uns.update(uns)
    table.write_h5ad(path)
    with CountsFile(path) as file:
        assert file.values == values


@pytest.mark.parametrize("symbols", [["a"] * 10 + [None], [*map(str, range(10)), None]])
def test_a_gene_without_a_symbol_is_one_sentence(counts, symbols):
    path, _ = counts
    table = anndata.read_h5ad(path)
    table.var["symbol"] = pd.Categorical(symbols) if symbols[0] == "a" else pd.array(symbols, dtype="string")
    with anndata.settings.override(allow_write_nullable_strings=True):
        table.write_h5ad(path)
    with pytest.raises(InputError, match="lacks some entries"):
        CountsFile(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file; run read_cells"):
        CountsFile(tmp_path / "none.h5ad")


def test_a_truncated_file_is_one_sentence(counts):
    path, _ = counts
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match="not a readable h5ad"):
        CountsFile(path)


def test_a_dense_matrix_is_refused(tmp_path):
    anndata.AnnData(np.ones((2, 2), dtype=np.float32)).write_h5ad(tmp_path / "dense.h5ad")
    with pytest.raises(InputError, match=r"X is not a CSR matrix|not a readable h5ad"):
        CountsFile(tmp_path / "dense.h5ad")


def test_rows_are_scaled_to_the_target_and_logged():
    found = log_normalise(sparse.csr_matrix(np.array([[1, 3, 0], [0, 0, 0], [10, 0, 10]])), 8.0).toarray()
    np.testing.assert_allclose(found, np.log1p([[2, 6, 0], [0, 0, 0], [4, 0, 4]]), rtol=1e-6)
    assert found.dtype == np.float32
