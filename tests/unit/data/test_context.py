from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.data import open_dataset
from mistline.store.reader import ShardReader

WANTED = [400, 3, 3, 4, 241, 0, 250]


def _around(sealed, **changes):
    return open_dataset(sealed, **{"context": ("niche", "region"), "image_size": 16, "genes": "dense", **changes})


@pytest.mark.parametrize("scale", ["niche", "region"])
def test_context_is_the_tile_that_the_index_names(sealed, scale):
    batch = _around(sealed).__getitems__(WANTED)
    tiles = open_dataset(sealed, scale=scale, image_size=16, genes="dense")
    everything = tiles.__getitems__(range(len(tiles)))
    place = {key: i for i, key in enumerate(everything.key)}
    around = batch.context[scale]
    assert around.row.dtype == torch.int64
    for i in range(len(WANTED)):
        row, expected = int(around.row[i]), place[f"{batch.slide[i]}/{batch.tiles[scale][i]}"]
        assert around.tiles.key[row] == everything.key[expected]
        assert torch.equal(around.tiles.image[row], everything.image[expected])
        assert torch.equal(around.tiles.genes[row], everything.genes[expected])
        assert around.tiles.split[row] == everything.split[expected]


def test_each_tile_is_read_once_a_batch(sealed, monkeypatch):
    dataset = _around(sealed)
    read: list[tuple[str, int]] = []
    packed = ShardReader.packed
    monkeypatch.setattr(
        ShardReader,
        "packed",
        lambda self, keys, pixels: read.extend((str(self.folder), k) for k in keys) or packed(self, keys, pixels),
    )
    batch = dataset.__getitems__(range(60))
    of_regions = [item for item in read if item[0].endswith("region")]
    assert len(of_regions) == len(set(of_regions)) == len(batch.context["region"].tiles) < 30
    assert sum(item[0].endswith("cell") for item in read) == 60


def test_a_sample_holds_the_three_scales(sealed):
    dataset = _around(sealed, image_size={"cell": "native", "niche": 8, "region": None}, genes="sparse")
    sample = dataset[77]
    table = pd.read_parquet(sealed / "slides/s1/shards/niche.parquet")
    key = int(table.index[table["niche_id"] == sample.tiles["niche"]][0])
    stored = ShardReader(sealed / "slides/s1/shards/niche")[key]
    niche, region = sample.context["niche"], sample.context["region"]
    assert niche.record_id == sample.tiles["niche"]
    assert niche.image.shape == (1, 8, 8)
    assert int(niche.gene_count.sum()) == int(stored.gene_count.sum())
    assert region.record_id == sample.tiles["region"] == niche.tiles["region"]
    assert region.image is None
    assert region.context == {}


def test_a_part_of_the_cells_still_finds_its_tiles(sealed):
    dataset = _around(sealed, split="test", slides=["s2"])
    batch = dataset.__getitems__(range(len(dataset)))
    found = np.array(batch.context["niche"].tiles.record_id)[batch.context["niche"].row.numpy()]
    assert found.tolist() == list(batch.tiles["niche"])
    assert set(batch.context["niche"].tiles.slide) == {"s2"}


def test_niches_have_regions_around_them(sealed):
    batch = open_dataset(sealed, scale="niche", context=["region"], image_size=8).__getitems__([5, 40])
    around = batch.context["region"]
    assert [around.tiles.record_id[row] for row in around.row.tolist()] == list(batch.tiles["region"])


def test_nothing_is_read_where_nothing_was_asked_for(sealed):
    assert open_dataset(sealed)[0].context == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_context_moves_and_travels(sealed, workers):
    dataset = _around(sealed, image_size={"cell": 8, "niche": "native", "region": 4})
    for batch in dataset.loader(100, shuffle=True, num_workers=workers):
        niche = batch.context["niche"]
        assert niche.tiles.resized(6).image.shape == (len(niche.tiles), 1, 6, 6)
        moved = batch.to("meta").context["region"]
        assert moved.row.device.type == moved.tiles.image.device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": ["regions"]}, "open_dataset: context: unknown 'regions'; did you mean region"),
        ({"scale": "region", "context": ["niche"]}, "context: no niche tile is known around these records"),
        ({"context": ["niche"], "image_size": {"cell": 8}}, "image_size: nothing is said of scale niche"),
        ({"context": ["niche"], "genes": {"cell": None, "niche": "all"}}, "genes: unknown 'all'"),
    ],
)
def test_wrong_contexts_are_one_sentence(sealed, arguments, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(sealed, **arguments)


def test_a_cell_of_no_tile_is_refused(own):
    path = own / "slides/s1/shards/cell.parquet"
    table = pd.read_parquet(path)
    table.loc[7, "niche_id"] = "99_99"
    write_parquet(path, table)
    with pytest.raises(InputError, match="tiles that do not exist; run cut_tiles again"):
        open_dataset(own, context=["niche"])
