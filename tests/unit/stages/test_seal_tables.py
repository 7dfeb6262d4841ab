from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from mistline.core.errors import ConfigError, InputError
from mistline.data import open_dataset
from mistline.store.manifest import read_manifest
from tests.unit.spots.written import GENES, table, write_h5ad, write_visium
from tests.unit.stages.tables import read, seal, split

DONORS = {"a": "d1", "v": "d2"}


@pytest.fixture
def cohort(tmp_path):
    read(tmp_path, "a", write_h5ad(tmp_path / "a.h5ad", table(600)[:, :10].copy()), um_per_unit=10.0)
    read(tmp_path, "v", write_visium(tmp_path / "v"))
    return tmp_path


def sides_of(root, slide):
    return pd.read_parquet(root / "dataset/splits" / f"{slide}.parquet")["split"].to_numpy()


def test_blocks_are_as_large_as_the_neighbourhoods_ask(cohort):
    found = split(cohort, DONORS)
    assert found["scheme"] == "spatial"
    spots = found["slides"]["v"]
    assert spots["leakage"]["largest_tile_um"] == pytest.approx(300, rel=0.01)
    assert found["leakage"]["tiles_shared"] == 0
    xy_um = pd.read_parquet(cohort / "slides/v/cells.parquet")[["x_um", "y_um"]].to_numpy()
    sides = sides_of(cohort, "v")
    assert {"train", "test", "gap"} <= set(sides)
    nearest = cKDTree(xy_um[sides == "train"]).query(xy_um[sides == "test"])[0].min()
    assert nearest > 300 - 1
    wide = split(cohort, DONORS, tile_um=120.0, val_share=0.0)["slides"]["v"]["leakage"]
    assert wide["largest_tile_um"] == 120.0


def test_without_coordinates_and_with_few_donors_cells_are_drawn(tmp_path):
    read(tmp_path, "a", write_h5ad(tmp_path / "a.h5ad", table(200, obsm={})))
    found = split(tmp_path, {"a": "d1"})
    assert found["scheme"] == "random"
    assert found["counts"] == {"train": 160, "val": 20, "test": 20, "gap": 0}
    assert found["leakage"]["nearest_um"] is None
    assert split(tmp_path, {"a": "d1"}) == found
    card = seal(tmp_path, {"a": "d1"}).with_name("card.md").read_text()
    assert "Cells drawn at random" in card
    assert "Nothing keeps the sides apart" in card
    with pytest.raises(ConfigError, match="a split by place needs coordinates"):
        split(tmp_path, {"a": "d1"}, scheme="spatial")


def test_without_coordinates_donors_still_divide(tmp_path):
    donors = {name: name for name in "abc"}
    for seed, name in enumerate(donors):
        read(tmp_path, name, write_h5ad(tmp_path / f"{name}.h5ad", table(40, seed, obsm={})), donor=name)
    found = split(tmp_path, donors)
    assert (found["scheme"], set(found["donors"].values())) == ("donor", {"train", "val", "test"})


def test_all_cells_in_one_place_are_not_divided(tmp_path):
    read(tmp_path, "a", write_h5ad(tmp_path / "a.h5ad", table(40, obsm={"spatial": np.ones((40, 2))})), um_per_unit=1.0)
    found = split(tmp_path, {"a": "d1"})["slides"]["a"]
    assert (found["counts"]["train"], found["undivided"]) == (40, "its cells are too few or all in one place")


def test_the_manifest(cohort):
    split(cohort, DONORS)
    sealed = read_manifest(seal(cohort, DONORS))
    assert (sealed.kind, sealed.content["values"], sealed.channels) == ("tables", "counts", ())
    assert sealed.scales["cell"]["records"] == 855
    assert sealed.scales["cell"]["excluded"]["not_in_tissue"] == 1
    assert [entry["n_genes"] for entry in sealed.slides.values()] == [10, 12]
    assert not [text for text in json.dumps(sealed.content).split('"') if text.startswith("/")]
    genes = pd.read_parquet(cohort / "dataset/genes.parquet")
    assert genes["n_slides"].tolist() == [2] * 10 + [1] * 2
    with pytest.raises(InputError, match="no records with images"):
        open_dataset(cohort / "dataset")


def test_positions_alone_can_be_sealed(tmp_path):
    read(tmp_path, "v", write_visium(tmp_path / "v", matrix=False))
    split(tmp_path, {"v": "d"})
    assert read_manifest(seal(tmp_path, {"v": "d"})).slides["v"]["n_genes"] == 0
    read(tmp_path, "a", write_h5ad(tmp_path / "a.h5ad"), um_per_unit=10.0)
    split(tmp_path, DONORS)
    seal(tmp_path, DONORS)
    assert pd.read_parquet(tmp_path / "dataset/genes.parquet")["gene_id"].tolist() == list(GENES)


def test_files_that_disagree_are_refused(cohort):
    split(cohort, DONORS)
    path = cohort / "slides/a/counts.h5ad"
    good = anndata.read_h5ad(path)
    swapped = good[[1, 0, *range(2, good.n_obs)]].copy()
    swapped.write_h5ad(path)
    with pytest.raises(InputError, match=r"row 0 of counts\.h5ad is cell"):
        seal(cohort, DONORS)
    swapped.obs_names = good.obs_names
    swapped.write_h5ad(path)
    with pytest.raises(InputError, match="has another sum than n_counts"):
        seal(cohort, DONORS)
    assert not (cohort / "dataset/manifest.json").exists()
