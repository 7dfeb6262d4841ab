from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.export.table import as_groups, build_table, by_size


def write_counts(path, ids):
    counts = sparse.csr_matrix(np.arange(len(ids) * 3).reshape(len(ids), 3).astype(np.int32))
    anndata.AnnData(counts, pd.DataFrame(index=ids), pd.DataFrame(index=["g1", "g2", "g3"])).write_h5ad(path)
    return path


def test_counts_cells_and_embeddings_are_one_table(tmp_path):
    cells = pd.DataFrame({"cell_id": ["b-1", "a-1"], "n_counts": [3, 12]})
    rows = np.ones((2, 4), dtype=np.float32)
    xy_um = np.array([[1.0, 2.0], [3.0, 4.0]])
    table = build_table(cells, write_counts(tmp_path / "c.h5ad", ["b-1", "a-1"]), {"pca": rows}, xy_um)
    assert table.obs_names.tolist() == ["b-1", "a-1"]
    assert table.obs["instance_id"].tolist() == [1, 2]
    assert set(table.obs["region"]) == {"cells"}
    assert sparse.issparse(table.X)
    assert table.X.sum(axis=1).ravel().tolist() == [[3, 12]]
    assert (table.obsm["X_pca"] == rows).all()
    assert (table.obsm["spatial"] == xy_um).all()


def test_counts_of_other_cells_are_refused(tmp_path):
    cells = pd.DataFrame({"cell_id": ["a-1", "b-1"]})
    with pytest.raises(InputError, match=r"c\.h5ad: it lists other cells"):
        build_table(cells, write_counts(tmp_path / "c.h5ad", ["b-1", "a-1"]), {}, np.zeros((2, 2)))


def test_clusters_are_numbered_by_size_then_by_first_cell():
    assert by_size(np.array([7, 0, 0, 5, 7, 0, 5])).tolist() == [2, 1, 1, 3, 2, 1, 3]


def test_groups_are_in_numerical_order():
    groups = as_groups(np.array([10, 2, 10, 1]))
    assert groups.categories.tolist() == ["1", "2", "10"]
    assert groups.tolist() == ["10", "2", "10", "1"]
