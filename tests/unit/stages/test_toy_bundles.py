"""The readers on synthetic bundles of every layout, whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile

from mistline.core.errors import InputError
from mistline.stages import check_bundle, read_cells
from mistline.xenium.toy import ToySlide, write_bundle

N_CELLS = 120
CASES = {
    "1.0": {},
    "1.3": {"bytes_ids": True},
    "2.0": {"symbols_as_ids": True},
    "3.0": {"shuffled": True},
    "4.0": {"n_addon": 5},
    "4.0 R&D": {"xoa": "R&D"},
}


@pytest.fixture(scope="module", params=CASES)
def toy(request, tmp_path_factory):
    """A toy bundle of one layout, checked and read."""
    folder = tmp_path_factory.mktemp("toy é")
    slide = ToySlide(
        layout=request.param.split()[0], n_cells=N_CELLS, n_planes=2, transcripts=False, **CASES[request.param]
    )
    truth = write_bundle(folder / "bundle", slide, labels=folder / "labels.csv")
    report = _check(folder / "bundle", folder / "out")
    return SimpleNamespace(
        slide=slide, truth=truth, bundle=folder / "bundle", folder=folder, report=report, **_read(folder)
    )


def _check(bundle: Path, out: Path) -> dict:
    path = out / "bundle.json"
    check_bundle.run(bundle=bundle, slide="s", donor="d", tissue="t", disease="x", report=path, params="{}")
    return json.loads(path.read_text())


def _read(folder: Path) -> dict:
    out = folder / "out"
    paths = {"cells": out / "cells.parquet", "counts": out / "counts.h5ad", "summary": out / "cells.json"}
    read_cells.run(
        bundle=folder / "bundle", check=out / "bundle.json", **paths, labels=folder / "labels.csv", params="{}"
    )
    return {
        "cells": pd.read_parquet(paths["cells"]),
        "counts": anndata.read_h5ad(paths["counts"]),
        "summary": json.loads(paths["summary"].read_text()),
    }


def test_layout_image_and_panel(toy):
    assert toy.report["layout"] == toy.slide.layout
    assert toy.report["image"]["shape_px"] == list(toy.slide.image_shape)
    assert toy.report["image"]["channels"]["DAPI"] == {"kind": "z-stack", "file": "morphology.ome.tif", "n_planes": 2}
    assert set(toy.report["image"]["channels"]) == set(toy.slide.stains)
    assert toy.report["panel"]["n_genes"] == toy.slide.n_genes + toy.slide.n_addon
    assert toy.report["panel"]["gene_ids"] == ("symbol" if toy.slide.symbols_as_ids else "ensembl")
    assert set(toy.report["panel"]["n_controls"]) == set(toy.slide.form.feature_types)
    told = [problem["what"] for problem in toy.report["problems"]]
    assert len(told) == toy.slide.symbols_as_ids
    assert all("genes are known by symbol only" in what for what in told)


def test_every_cell_is_kept_or_counted(toy):
    assert toy.summary["n_read"] == N_CELLS
    assert toy.summary["n_kept"] == len(toy.cells) == N_CELLS - sum(toy.summary["excluded"].values())
    assert toy.summary["n_kept"] >= 0.98 * N_CELLS
    assert toy.summary["joins"]["counts_differ_from_cells"] == 0
    assert toy.cells["cell_id"].tolist() == toy.counts.obs_names.tolist()
    assert np.array_equal(toy.counts.X.sum(axis=1).A1, toy.cells["n_counts"])


def test_labels_meet_their_cells(toy):
    labels = pd.read_csv(toy.folder / "labels.csv", dtype=str, keep_default_na=False)
    labels = labels.set_index("cell_id").loc[toy.cells["cell_id"]]
    for column in labels:
        assert np.array_equal(labels[column], toy.cells[f"label_{column}"].fillna(""))
    assert toy.summary["labels"] == {str(column): int((labels[column] != "").sum()) for column in labels}
    assert toy.summary["labels"]["cell_type"] == len(toy.cells)


def test_the_planted_cell_with_two_nuclei_is_found(toy):
    since_2 = toy.slide.layout not in ("1.0", "1.3")
    assert (toy.cells["n_nuclei"] == 2).sum() == (1 if since_2 else 0)
    assert (toy.cells["n_nuclei"] <= 2).all()
    assert ((toy.cells["n_nuclei"] == 0) == toy.cells["nucleus_area_um2"].isna()).all()


def test_nuclei_lie_under_the_centroids(toy):
    image = tifffile.TiffFile(toy.bundle / "morphology.ome.tif").pages[1].asarray().astype(float)
    row, col = ((toy.cells[name] / toy.report["pixel_size_um"]).astype(int) for name in ("y_um", "x_um"))
    assert image[row, col].mean() > 1.3 * image.mean()


def test_transposed_tables_are_refused(toy, tmp_path):
    """A slide whose x and y are exchanged must not pass both stages."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in toy.bundle.iterdir():
        if path.name not in ("cells.parquet", "cell_boundaries.parquet"):
            (bundle / path.name).symlink_to(path)
    names = {"x_centroid": "y_centroid", "y_centroid": "x_centroid", "vertex_x": "vertex_y", "vertex_y": "vertex_x"}
    for name in ("cells.parquet", "cell_boundaries.parquet"):
        pd.read_parquet(toy.bundle / name).rename(columns=names).to_parquet(bundle / name, index=False)
    with pytest.raises(InputError, match="x and y look swapped"):
        _check(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()
