from __future__ import annotations

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.stages.read_cells import run
from tests.unit.xenium.conftest import LAYOUTS, PIXEL_UM, REAL, SHAPE_PX, Bundle, make


@pytest.fixture
def bundle() -> Bundle:
    return make()


def _read(root, out, *, labels=None, shape_px=SHAPE_PX, pixel_um=PIXEL_UM, **params):
    out.mkdir(parents=True)
    check = out / "bundle.json"
    check.write_text(json.dumps({"slide": "s", "image": {"shape_px": shape_px}, "pixel_size_um": pixel_um}))
    paths = {"cells": out / "cells.parquet", "counts": out / "counts.h5ad", "summary": out / "cells.json"}
    try:
        run(bundle=root, check=check, **paths, labels=labels, params=json.dumps(params))
    except InputError:
        assert sorted(out.iterdir()) == [check]  # nothing written, nothing half-written
        raise
    return pd.read_parquet(paths["cells"]), anndata.read_h5ad(paths["counts"]), json.loads(paths["summary"].read_text())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_agree_with_each_other_and_with_the_bundle(tmp_path, layout):
    bundle = make(layout)
    cells, counts, summary = _read(bundle.write(tmp_path / "b"), tmp_path / "out", min_counts=0)
    assert list(cells)[:13] == [
        *("cell_id", "x_um", "y_um", "x_min_um", "x_max_um", "y_min_um", "y_max_um", "cell_area_um2"),
        *("nucleus_area_um2", "n_nuclei", "n_counts", "n_genes", "n_control_counts"),
    ]
    assert cells["cell_id"].tolist() == counts.obs_names.tolist()
    assert counts.var_names.tolist() == sorted(counts.var_names)
    assert counts.X.dtype == np.int32
    assert np.array_equal(counts.X.sum(axis=1).A1, cells["n_counts"])
    assert np.array_equal((counts.X > 0).sum(axis=1).A1, cells["n_genes"])
    expected = pd.DataFrame(bundle.counts.toarray(), index=bundle.barcodes, columns=bundle.features["name"])
    expected = expected.loc[cells["cell_id"], counts.var["symbol"]]
    assert np.array_equal(counts.X.toarray(), expected)
    assert cells["n_nuclei"].dtype == np.int32
    assert cells.set_index("cell_id")["n_nuclei"][str(bundle.cells["cell_id"][1])] == 0
    assert summary["n_read"] == summary["n_kept"] == 48
    assert summary["slide"] == "s"


def test_shuffled_tables_give_the_same_bytes(tmp_path, bundle):
    _read(bundle.write(tmp_path / "b"), tmp_path / "out")
    order = np.random.default_rng(2).permutation(48)
    bundle.cells = bundle.cells.iloc[order[::-1]]
    bundle.cell_boundaries = bundle.cell_boundaries.sample(frac=1, random_state=3)
    bundle.nucleus_boundaries = bundle.nucleus_boundaries.sample(frac=1, random_state=4)
    bundle.counts, bundle.barcodes = bundle.counts[order], [bundle.barcodes[row] for row in order]
    _read(bundle.write(tmp_path / "c"), tmp_path / "again")
    for name in ("cells.parquet", "counts.h5ad", "cells.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_labels_are_joined_by_id(tmp_path, bundle):
    labels = tmp_path / "labels.csv"
    ids = bundle.cells["cell_id"]
    labels.write_text(f"cell_id,cell_type\n{ids[9]},tumour\n{ids[3]},stroma\n")
    cells, _, summary = _read(bundle.write(tmp_path / "b"), tmp_path / "out", labels=labels)
    kept = cells.set_index("cell_id")["label_cell_type"]
    assert kept.notna().sum() == 2
    assert (kept[ids[9]], kept[ids[3]]) == ("tumour", "stroma")
    assert summary["labels"] == {"cell_type": 2}


@pytest.mark.parametrize(
    ("text", "what"),
    [("id,a\n1,b\n", "no column cell_id"), ("cell_id,a\nzzz,b\n", "labels of 1 ids that are no cell of the bundle")],
)
def test_bad_labels(tmp_path, bundle, text, what):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(InputError, match=rf"labels.csv: {what}"):
        _read(bundle.write(tmp_path / "b"), tmp_path / "out", labels=labels)


def _duplicate(bundle):
    bundle.cells.loc[1, "cell_id"] = bundle.cells["cell_id"][0]


def _foreign_polygon(bundle):
    bundle.cell_boundaries.loc[:8, "cell_id"] = "zzz-1"


def _foreign_nucleus(bundle):
    bundle.nucleus_boundaries.loc[:8, "cell_id"] = "zzz-1"


def _foreign_barcode(bundle):
    bundle.barcodes[0] = "zzz-1"


def _without_polygons(bundle):
    bundle.cell_boundaries = bundle.cell_boundaries[90:]


def _negative(bundle):
    bundle.counts.data[0] = -3


def _swapped(bundle):
    bundle.cells = bundle.cells.rename(columns={"x_centroid": "y_centroid", "y_centroid": "x_centroid"})
    bundle.cell_boundaries = bundle.cell_boundaries.rename(columns={"vertex_x": "vertex_y", "vertex_y": "vertex_x"})


def _no_cell(bundle):
    bundle.cells = bundle.cells[:0]


def _other_counts(bundle):
    bundle.cells["transcript_counts"] += 5


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_duplicate, r"cells.parquet: 1 cell ids occur more than once, such as .*; use the file as"),
        (_foreign_polygon, r"cell_boundaries.parquet: polygons of 1 ids that are no cell .*'zzz-1'; use the table"),
        (_foreign_nucleus, r"nucleus_boundaries.parquet: polygons of 1 ids that are no cell .*'zzz-1'; use the table"),
        (_foreign_barcode, r"feature matrix: 1 barcodes are no cell of cells.parquet, such as 'zzz-1'; use the matrix"),
        (_without_polygons, r"10 of 48 cells lack a usable polygon.*\(no_polygon 10\).*; check that all files"),
        (
            _negative,
            r"cell_feature_matrix.h5: the count of GENE\d in cell \S+ is -3, not a whole number from 0 .*; use the raw",
        ),
        (_swapped, r"cells.parquet: x and y look swapped: .*; exchange x_centroid and y_centroid"),
        (_no_cell, r"cells.parquet: the table holds no cell; check the run"),
        (
            _other_counts,
            r"feature matrix: gene counts of 48 of 48 cells differ from transcript_counts in cells.parquet",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, bundle, spoil, sentence):
    spoil(bundle)
    with pytest.raises(InputError, match=sentence):
        _read(bundle.write(tmp_path / "b"), tmp_path / "out")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real crops beside the repository (../shared) are missing")
@pytest.mark.parametrize(
    ("name", "shape_px", "n_cells"),
    [("breast_rep1_crop_a", (763, 899), 122), ("breast_rep1_crop_b", (1800, 2400), 1120)],
)
def test_gene_totals_of_every_real_cell_equal_the_matrix(tmp_path, name, shape_px, n_cells):
    cells, counts, summary = _read(REAL / name, tmp_path / "out", shape_px=shape_px, pixel_um=0.2125)
    assert summary["n_kept"] == n_cells
    with h5py.File(REAL / name / "cell_feature_matrix.h5") as file:
        group = file["matrix"]
        totals = np.add.reduceat(group["data"][()], group["indptr"][:-1])
        stated = pd.Series(totals, index=group["barcodes"].asstr()[()])
    assert np.array_equal(stated[cells["cell_id"]], cells["n_counts"])
    assert np.array_equal(counts.X.sum(axis=1).A1, cells["n_counts"])
