"""Every contradiction between two files of a slide is found and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.config.scales import Scale
from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json, write_parquet
from mistline.mist.metacells import read_vocabulary
from mistline.mist.seal import Proven, SlideFiles, prove
from tests.unit.data.conftest import SCALES, build, write_shards


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("seal") / "results")


@pytest.fixture
def own(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "results"))


def proof(root: Path) -> Proven:
    files = SlideFiles("s1", "d1", root / "slides" / "s1", root / "dataset" / "splits" / "s1.parquet")
    levels = read_vocabulary(root / "dataset" / "metacells.h5ad").levels
    return prove(files, [Scale(**scale) for scale in SCALES], levels)


def edit(path: Path, change: Callable[[pd.DataFrame], object]) -> None:
    table = pd.read_parquet(path)
    changed = change(table)
    write_parquet(path, changed if isinstance(changed, pd.DataFrame) else table)


def put(column: str, row: int, value: object) -> Callable[[pd.DataFrame], object]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


def add(column: str, row: int) -> Callable[[pd.DataFrame], object]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] += 1

    return change


def swap(table: pd.DataFrame) -> pd.DataFrame:
    order = np.arange(len(table))
    order[[4, 5]] = [5, 4]
    return table.iloc[order].reset_index(drop=True)


def test_a_sound_slide_passes(sealed):
    found = proof(sealed)
    assert found.records["cell"] == 240
    assert found.channels == ("DAPI",)
    assert sum(found.sides.values()) == 240


DAMAGES = {
    "cell index in another order": (
        "shards/cell.parquet",
        swap,
        "slide s1, cell: row 4 is .* and .* in the cell index",
    ),
    "cells in another order": ("cells.parquet", swap, "slide s1, cell: row 4"),
    "metacells in another order": ("metacells.parquet", swap, "slide s1, meta-cells: row 4"),
    "a cell is missing": ("cells.parquet", lambda t: t.iloc[:-1], "cells.json: 243 cells read are not 239 kept"),
    "an index row is missing": (
        "shards/cell.parquet",
        lambda t: t.iloc[:-1],
        "cells.parquet lists 240 cells and the cell index 239",
    ),
    "a position differs": ("shards/cell.parquet", add("x_um", 7), "slide s1, cell: key s1/1h000007-1 has x_um"),
    "a total differs": ("shards/cell.parquet", add("n_counts", 7), "key s1/1h000007-1 has n_counts"),
    "keys jump": ("shards/cell.parquet", put("key", 9, 99), "slide s1, cell: the keys of the index are not 0, 1, 2"),
    "another slide": ("shards/niche.parquet", put("slide", 2, "s7"), "niche: the index names slide s7, not s1"),
    "another donor": ("shards/cell.parquet", put("donor", 2, "d7"), "cell: the index names donor d7, not d1"),
    "a foreign key to nothing": (
        "shards/cell.parquet",
        put("niche_id", 3, "99_99"),
        "slide s1, niche: key s1/1d000003-1 points to tile 99_99, which has no record",
    ),
    "a foreign key to another tile": (
        "shards/cell.parquet",
        lambda t: put("region_id", 0, t["region_id"].iloc[-1])(t),
        "slide s1, region: key s1/1a000000-1 does not lie in its tile 6_",
    ),
    "a tile counts too many cells": ("shards/niche.parquet", add("n_cells", 0), "niche: key s1/.* states n_cells"),
    "a tile's genes are not its cells'": (
        "shards/region.parquet",
        add("n_counts", 3),
        "slide s1, region: key s1/0_3 states n_counts .*, its cells sum to",
    ),
    "tiles in another order": (
        "shards/niche.parquet",
        lambda t: swap(t).assign(key=t["key"]),
        "niche: tiles .* not sorted",
    ),
    "a tile without its coarser tile": ("shards/niche.parquet", put("region_id", 0, "50_50"), "points to region 50_50"),
    "a metacell of no vocabulary": ("metacells.parquet", put("metacell", 1, 999), "meta-cell 999 is none of the 24"),
    "levels of another vocabulary": (
        "metacells.parquet",
        lambda t: t.assign(l2=(t["l2"] + 1) % 4),
        "l2 is of another vocabulary",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_contradiction_is_named(own, damage):
    name, change, message = DAMAGES[damage]
    edit(own / "slides" / "s1" / name, change)
    with pytest.raises(InputError, match=message):
        proof(own)


def test_doubled_ids_are_refused(own):
    folder = own / "slides" / "s1"
    first = pd.read_parquet(folder / "cells.parquet")["cell_id"][0]
    for path in (folder / "cells.parquet", folder / "shards/cell.parquet"):
        edit(path, put("cell_id", 1, first))
    with pytest.raises(InputError, match=f"key s1/{first} is listed twice"):
        proof(own)


def test_exclusions_must_add_up(own):
    path = own / "slides" / "s1" / "cells.json"
    write_json(path, {**read_json(path), "n_read": 999})
    with pytest.raises(InputError, match="999 cells read are not 240 kept and 3 excluded"):
        proof(own)


def test_an_unknown_split_is_refused(own):
    edit(own / "dataset/splits/s1.parquet", put("split", 0, "tset"))
    with pytest.raises(InputError, match="unknown split 'tset'"):
        proof(own)


def test_a_tile_of_two_sides_is_refused(own):
    def change(table: pd.DataFrame) -> None:
        table["split"] = np.where(np.arange(len(table)) % 2, "train", "test")

    edit(own / "dataset/splits/s1.parquet", change)
    with pytest.raises(InputError, match="tiles hold cells of more than one of train, val and test"):
        proof(own)


def test_counts_of_other_cells_are_refused(own):
    path = own / "slides" / "s1" / "counts.h5ad"
    data = anndata.read_h5ad(path)
    data[np.r_[1, 0, 2 : len(data)]].copy().write_h5ad(path)
    with pytest.raises(InputError, match=r"slide s1, genes: row 0 is .* and .* in counts.h5ad"):
        proof(own)


def test_another_number_of_records_is_refused(own):
    rng = np.random.default_rng(0)
    folder = own / "slides" / "s1" / "shards" / "region"
    _unlock(folder)
    write_shards(folder, np.full(3, 64), np.ones((3, 30), dtype=np.int32), rng)
    with pytest.raises(InputError, match="slide s1, region: the shards hold 3 records, the index lists"):
        proof(own)


def test_records_that_are_not_the_ones_indexed_are_refused(own):
    folder = own / "slides" / "s1" / "shards" / "cell"
    _unlock(folder)
    index = pd.read_parquet(folder.with_suffix(".parquet"))
    write_shards(folder, index["side_px"].to_numpy(), np.ones((240, 30), dtype=np.int32), np.random.default_rng(0))
    with pytest.raises(InputError, match="slide s1, cell: the record of key 0 is not the one that the index describes"):
        proof(own)


def test_records_with_other_genes_of_the_same_total_are_refused(own):
    folder = own / "slides" / "s1" / "shards" / "cell"
    _unlock(folder)
    index = pd.read_parquet(folder.with_suffix(".parquet"))
    counts = anndata.read_h5ad(own / "slides/s1/counts.h5ad").X.toarray()[:, ::-1]
    write_shards(folder, index["side_px"].to_numpy(), counts, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"key s1/1a000000-1 has other genes in its record than in counts.h5ad"):
        proof(own)


@pytest.mark.parametrize("name", ["cells.parquet", "shards/niche.parquet", "metacells.parquet"])
def test_a_missing_or_truncated_table_is_one_sentence(own, name):
    path = own / "slides" / "s1" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="truncated or not the table"):
        proof(own)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        proof(own)


def _unlock(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o644)
