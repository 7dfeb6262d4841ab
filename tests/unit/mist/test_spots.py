from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.config.cells import Cells
from mistline.core.errors import InputError
from mistline.mist.spots import keep
from mistline.spots.reading import read_table
from tests.unit.spots.written import table, write_h5ad, write_visium


def test_excluded_spots_are_counted_and_the_array_orders_the_rest(tmp_path):
    found = read_table(write_visium(tmp_path / "v"), "counts", None)
    kept = keep(found, Cells(), "counts")
    assert kept.summary["excluded"] == {"not_in_tissue": 1, "no_counts_row": 0, "below_min_counts": 0}
    assert (kept.summary["n_read"], kept.summary["n_kept"]) == (256, 255)
    places = kept.table[["array_row", "array_col"]].to_numpy().tolist()
    assert places == sorted(places)
    assert kept.table["n_counts"].tolist() == found.genes.matrix[kept.rows].sum(axis=1).A1.tolist()


def test_a_shuffled_table_is_kept_in_the_same_order(tmp_path):
    data = table()
    shuffled = data[np.random.default_rng(1).permutation(data.n_obs)].copy()
    one, two = (
        keep(read_table(write_h5ad(tmp_path / f"{number}.h5ad", item), "counts", 10.0), Cells(), "counts").table
        for number, item in enumerate((data, shuffled))
    )
    pd.testing.assert_frame_equal(one, two)
    blocks = (one[["y_um", "x_um"]].to_numpy() // 200).astype(int).tolist()
    assert blocks == sorted(blocks)


def test_empty_cells_are_excluded_only_where_there_are_genes(tmp_path):
    data = table()
    counts = data.X.tolil()
    counts[0] = 0
    data.X = counts.tocsr()
    found = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 1.0)
    assert keep(found, Cells(), "counts").summary["excluded"]["below_min_counts"] == 1
    assert keep(found, Cells(min_counts=0), "counts").summary["n_kept"] == data.n_obs
    assert keep(found, Cells(min_counts=50), "log").summary["excluded"]["below_min_counts"] == 1  # no number of counts
    alone = read_table(write_visium(tmp_path / "v", matrix=False), "counts", None)
    assert keep(alone, Cells(), "counts").summary["n_kept"] == 255


def test_labels_of_both_sources_may_not_share_a_name(tmp_path):
    found = read_table(write_h5ad(tmp_path / "t.h5ad"), "counts", 1.0)
    labels = pd.DataFrame({"label_type": ["a", None] * 120})
    kept = keep(found, Cells(), "counts", labels)
    assert kept.summary["labels"] == {"layer": 240, "type": 120}
    with pytest.raises(InputError, match="the column layer is in obs and in the labels file"):
        keep(found, Cells(), "counts", labels.rename(columns={"label_type": "label_layer"}))


def test_a_matrix_of_another_run_is_refused(tmp_path):
    found = read_table(write_visium(tmp_path / "v", barcodes=["AAAC0001-1"]), "counts", None)
    with pytest.raises(InputError, match="254 of 255 spots in the tissue have no row"):
        keep(found, Cells(), "counts")


def test_without_coordinates_ids_order(tmp_path):
    data = anndata.concat([table(60, seed=1), table(60, seed=0)], join="outer")
    del data.obsm["spatial"]
    kept = keep(read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", None), Cells(), "counts").table
    assert kept["cell_id"].is_monotonic_increasing
    assert kept[["x_um", "y_um"]].isna().all(axis=None)
