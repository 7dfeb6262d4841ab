from __future__ import annotations

import pandas as pd
import pytest

from mistline.core.errors import ConfigError
from mistline.core.hashing import hash_file
from mistline.store.reader import ShardReader
from tests.unit.stages.images import Prepared, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    made = prepare(tmp_path_factory.mktemp("sl ïde"), n_stains=1, n_cells=200, layout="1.0")
    made.project(made.folder, "{}")
    for scale in ("niche", "region"):
        made.tiles(made.folder, scale)
    return made


@pytest.mark.parametrize(("scale", "size"), [("niche", 256), ("region", 1024)])
def test_every_cell_and_every_count_is_in_one_tile(prepared, scale, size):
    cells = pd.read_parquet(prepared.folder / "cells.parquet")
    index = pd.read_parquet(prepared.folder / "shards" / f"{scale}.parquet")
    assert index["n_cells"].sum() == len(cells)
    assert index["n_counts"].sum() == cells["n_counts"].sum()
    reader = ShardReader(prepared.folder / "shards" / scale)
    assert len(reader) == len(index)
    for key in range(len(reader)):
        assert reader[key].image.shape == (1, size, size)
        assert reader[key].gene_count.sum() == index["n_counts"][key]


def test_foreign_keys_of_niches_are_regions(prepared):
    niche, region = (pd.read_parquet(prepared.folder / "shards" / f"{name}.parquet") for name in ("niche", "region"))
    cells = niche.groupby("region_id")["n_cells"].sum()
    assert cells.to_dict() == region.set_index("region_id")["n_cells"].to_dict()


def test_a_second_run_gives_the_same_bytes_for_any_threads(prepared):
    before = [hash_file(prepared.folder / "shards" / name) for name in ("niche", "niche.parquet")]
    prepared.tiles(prepared.folder, threads=3)
    assert [hash_file(prepared.folder / "shards" / name) for name in ("niche", "niche.parquet")] == before


def test_an_unknown_scale_is_an_error(prepared):
    with pytest.raises(ConfigError, match="no grid scale 'cell'; choose one of niche, region"):
        prepared.tiles(prepared.folder, "cell")


@pytest.mark.parametrize("scales", ["[", "{}", '[{"name": "niche", "unit": "grid"}]'])
def test_scales_that_cannot_be_used_are_an_error(prepared, scales):
    with pytest.raises(ConfigError, match="scales"):
        prepared.tiles(prepared.folder, scales=scales)
