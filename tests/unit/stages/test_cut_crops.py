from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.store.reader import ShardReader
from tests.unit.stages.images import Prepared, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    made = prepare(tmp_path_factory.mktemp("sl ïde"), n_stains=1, n_cells=200)
    made.project(made.folder, "{}")
    made.crops(made.folder)
    return made


def test_every_kept_cell_has_a_record_in_its_row(prepared):
    cells = pd.read_parquet(prepared.folder / "cells.parquet")
    index = pd.read_parquet(prepared.folder / "shards" / "cell.parquet")
    assert (index["cell_id"] == cells["cell_id"]).all()
    reader = ShardReader(prepared.folder / "shards" / "cell")
    assert len(reader) == len(cells) == 200
    for key in range(len(reader)):
        record = reader[key]
        assert record.image.shape == (1, index["side_px"][key], index["side_px"][key])
        assert record.gene_count.sum() == index["n_counts"][key]


def test_nuclei_are_brighter_than_what_surrounds_them(prepared):
    index = pd.read_parquet(prepared.folder / "shards" / "cell.parquet")
    reader = ShardReader(prepared.folder / "shards" / "cell")
    cells = pd.read_parquet(prepared.folder / "cells.parquet")
    brighter = []
    for key in np.flatnonzero(cells["n_nuclei"] == 1):
        image, side = reader[int(key)].image[0].astype(float), index["side_px"][key]
        middle = slice(2 * side // 5, 3 * side // 5 + 1)
        brighter.append(image[middle, middle].mean() > image.mean())
    assert np.mean(brighter) > 0.9


def test_a_second_run_gives_the_same_bytes_for_any_threads(prepared):
    before = [hash_file(prepared.folder / "shards" / name) for name in ("cell", "cell.parquet")]
    prepared.crops(prepared.folder, threads=3)
    assert [hash_file(prepared.folder / "shards" / name) for name in ("cell", "cell.parquet")] == before


def test_context_and_bound_are_followed(prepared, tmp_path):
    for name in ("image.ome.zarr", "image.json"):
        (tmp_path / name).symlink_to(prepared.folder / name)
    prepared.crops(tmp_path, '{"context": 2}', shard_gb=0.001)
    narrow = pd.read_parquet(prepared.folder / "shards" / "cell.parquet")
    wide = pd.read_parquet(tmp_path / "shards" / "cell.parquet")
    assert (wide["side_px"] >= 1.9 * narrow["side_px"] - 2).all()
    assert len(list((tmp_path / "shards" / "cell").glob("*.lmdb"))) > 1
    made = json.loads((tmp_path / "shards" / "cell.meta.json").read_text())
    assert made["params"]["context"] == 2


def test_a_missing_image_is_an_error(prepared, tmp_path):
    (tmp_path / "image.json").symlink_to(prepared.folder / "image.json")
    with pytest.raises(InputError, match="no such image"):
        prepared.crops(tmp_path)
    assert not (tmp_path / "shards").exists()


def test_an_unknown_setting_is_an_error(prepared, tmp_path):
    with pytest.raises(ConfigError, match="did you mean context"):
        prepared.crops(tmp_path, '{"contxt": 2}')
