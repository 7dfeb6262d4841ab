from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from tests.unit.spots.written import GENES, table, write_h5ad, write_visium
from tests.unit.stages.tables import read


def test_files_agree_with_each_other(tmp_path):
    folder = read(tmp_path, "v", write_visium(tmp_path / "in put"))
    cells, counts = pd.read_parquet(folder / "cells.parquet"), anndata.read_h5ad(folder / "counts.h5ad")
    assert list(cells) == ["cell_id", "x_um", "y_um", "array_row", "array_col", "n_counts", "n_genes"]
    assert (cells["n_counts"].dtype, cells["array_row"].dtype) == (np.float64, "Int32")
    assert cells["cell_id"].tolist() == counts.obs_names.tolist()
    assert counts.var_names.tolist() == list(GENES)
    assert (counts.X.dtype, counts.uns["values"]) == (np.int32, "counts")
    assert np.array_equal(counts.X.sum(axis=1).A1, cells["n_counts"])
    described = json.loads((folder / "bundle.json").read_text())
    assert described["um_per_unit_from"] == "array of spots 100 um apart"
    assert (described["kind"], described["n_cells"], described["panel"]["n_genes"]) == ("visium", 256, 12)
    assert set(described["files"]) == {
        "filtered_feature_bc_matrix.h5",
        "spatial/scalefactors_json.json",
        "spatial/tissue_positions.csv",
    }


def test_some_cells_without_label_are_kept(tmp_path):
    data = table()
    labels = tmp_path / "labels.csv"
    labels.write_text("cell_id,type\n" + "".join(f"{name},a\n" for name in data.obs_names[:100]))
    folder = read(tmp_path, "t", write_h5ad(tmp_path / "t.h5ad", data), labels=labels, um_per_unit=2.0)
    cells = pd.read_parquet(folder / "cells.parquet")
    assert (len(cells), int(cells["label_type"].notna().sum())) == (240, 100)
    assert json.loads((folder / "cells.json").read_text())["labels"] == {"layer": 240, "type": 100}


def test_a_shuffled_table_gives_the_same_bytes(tmp_path):
    data = table()
    shuffled = data[::-1, ::-1].copy()
    one = read(tmp_path, "one", write_h5ad(tmp_path / "a/t.h5ad", data), um_per_unit=2.0)
    two = read(tmp_path, "two", write_h5ad(tmp_path / "b/t.h5ad", shuffled), um_per_unit=2.0)
    for name in ("cells.parquet", "counts.h5ad"):
        assert hash_file(one / name) == hash_file(two / name)


def test_nothing_is_written_of_a_bad_table(tmp_path):
    data = table()
    data.X = data.X.astype(float) * np.nan
    with pytest.raises(InputError, match="not a finite number"):
        read(tmp_path, "t", write_h5ad(tmp_path / "t.h5ad", data), um_per_unit=2.0)
    assert not (tmp_path / "slides").exists()
