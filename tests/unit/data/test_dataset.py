from __future__ import annotations

import pickle
from pathlib import Path

import anndata
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_json, write_parquet
from mistline.data import Batch, Sample, open_dataset
from mistline.store.reader import ShardReader
from tests.unit.data.conftest import PIXEL_UM, write_shards

SLIDES = ("s1", "s2")


def folder(root: Path, slide: str) -> Path:
    return root / "slides" / slide


def counts(root: Path, slide: str) -> pd.DataFrame:
    return anndata.read_h5ad(folder(root, slide) / "counts.h5ad").to_df()


def test_every_cell_comes_once_in_the_order_of_the_files(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None)
    batch = dataset.__getitems__(range(len(dataset)))
    expected = [f"{s}/{i}" for s in SLIDES for i in pd.read_parquet(folder(sealed, s) / "cells.parquet")["cell_id"]]
    assert list(batch.key) == expected
    assert len(dataset) == 480


@pytest.mark.parametrize("where", ["", "dataset", "dataset/manifest.json"])
def test_it_opens_from_any_of_three_paths(sealed, where):
    assert len(open_dataset(sealed / where)) == 480


def test_its_version_is_that_of_the_manifest(sealed):
    assert open_dataset(sealed).manifest.version == read_json(sealed / "dataset/manifest.json")["version"]


def test_splits_are_those_of_the_files_and_share_nothing(sealed):
    keys: dict[str, set[str]] = {}
    for split in ("train", "val", "test", "gap"):
        dataset = open_dataset(sealed, split=split, image_size=None, genes=None)
        batch = dataset.__getitems__(range(len(dataset)))
        assert set(batch.split) == {split}
        keys[split] = set(batch.key)
        tables = {s: pd.read_parquet(sealed / f"dataset/splits/{s}.parquet") for s in SLIDES}
        expected = {f"{s}/{i}" for s, table in tables.items() for i in table["cell_id"][table["split"] == split]}
        assert keys[split] == expected
    assert sum(map(len, keys.values())) == 480


def test_dense_genes_are_the_counts_and_what_was_not_measured_is_marked(sealed):
    dataset = open_dataset(sealed, image_size=None, genes="dense")
    batch = dataset.__getitems__(range(len(dataset)))
    assert batch.genes.dtype == torch.float32
    assert batch.genes.shape == batch.measured.shape == (480, 30)
    names = np.array(dataset.genes.gene_ids)
    for first, slide in ((0, "s1"), (240, "s2")):
        expected = counts(sealed, slide)
        measured = np.isin(names, expected.columns)
        np.testing.assert_array_equal(batch.measured[first].numpy(), measured)
        found = batch.genes[first : first + 240].numpy()
        np.testing.assert_array_equal(found[:, measured], expected.to_numpy())
        assert not found[:, ~measured].any()
    assert dataset.genes.common().sum() == 28


def test_sparse_genes_are_the_same_counts(sealed):
    dense = open_dataset(sealed, image_size=None, genes="dense").__getitems__([3, 477, 250])
    sparse = open_dataset(sealed, image_size=None, genes="sparse").__getitems__([3, 477, 250])
    for i in range(3):
        sample = sparse.sample(i)
        rebuilt = torch.zeros(30)
        rebuilt[sample.gene_index] = sample.gene_count.float()
        assert torch.equal(rebuilt, dense.genes[i])
    assert sparse.gene_offset.tolist()[-1] == len(sparse.gene_index) == len(sparse.gene_count)


@pytest.mark.parametrize("size", [6, 14, 40])
def test_resizing_at_load_gives_the_same_pixels_as_resizing_the_stored_crop(sealed, size):
    dataset = open_dataset(sealed, image_size=size, genes=None)
    reader = ShardReader(folder(sealed, "s2") / "shards/cell")
    batch = dataset.__getitems__(range(240, 480))
    assert batch.image.shape == (240, 1, size, size)
    assert batch.image.dtype == torch.uint8
    for key in range(0, 240, 13):
        stored = reader[key].image[0]
        how = cv2.INTER_AREA if size < len(stored) else cv2.INTER_LINEAR
        expected = stored if size == len(stored) else cv2.resize(stored, (size, size), interpolation=how)
        np.testing.assert_array_equal(batch.image[key, 0].numpy(), expected)


def test_native_images_are_the_stored_ones(sealed):
    dataset = open_dataset(sealed, genes=None)
    index = pd.read_parquet(folder(sealed, "s1") / "shards/cell.parquet")
    for key in (0, 77, 239):
        image = dataset[key].image
        assert image.shape == (1, index["side_px"][key], index["side_px"][key])
        assert image[0, 0, 0] == key % 251


def test_a_sample_knows_where_it_is(sealed):
    sample = open_dataset(sealed, image_size=8, genes="dense")[5]
    row = pd.read_parquet(folder(sealed, "s1") / "shards/cell.parquet").iloc[5]
    metacell = pd.read_parquet(folder(sealed, "s1") / "metacells.parquet")["metacell"][5]
    labels = pd.read_parquet(folder(sealed, "s1") / "cells.parquet").iloc[5]
    assert isinstance(sample, Sample)
    assert (sample.key, sample.slide, sample.donor, sample.record_id) == (f"s1/{row.cell_id}", "s1", "d1", row.cell_id)
    np.testing.assert_allclose(sample.xy_um, [row.x_um, row.y_um], rtol=1e-6)
    assert sample.side_um == row.side_px * PIXEL_UM
    assert sample.tiles == {"niche": row.niche_id, "region": row.region_id}
    assert sample.metacell == metacell
    assert sample.labels == {"type": labels.label_type, "size": labels.label_size}


def test_unknown_labels_are_none_and_slides_without_labels_have_none(sealed):
    batch = open_dataset(sealed, image_size=None, genes=None).__getitems__([3, 4, 300])
    assert batch.labels["type"][0] is None
    assert batch.labels["type"][1].startswith("type")
    assert batch.labels["type"][2] is None


@pytest.mark.parametrize("scale", ["niche", "region"])
def test_tiles_sum_their_cells_and_are_of_their_split(sealed, scale):
    cells = open_dataset(sealed, image_size=None, genes="dense")
    members = cells.__getitems__(range(len(cells)))
    tiles = open_dataset(sealed, scale=scale, image_size=16, genes="dense")
    batch = tiles.__getitems__(range(len(tiles)))
    of_cell = np.array([f"{slide}/{name}" for slide, name in zip(members.slide, members.tiles[scale], strict=True)])
    split = np.array(members.split)
    assert batch.metacell is None
    assert batch.labels == {}
    for i in range(0, len(tiles), 7):
        inside = of_cell == batch.key[i]
        assert torch.equal(batch.genes[i], members.genes[torch.from_numpy(inside)].sum(0))
        assert set(split[inside]) == {batch.split[i]}


def test_niches_point_to_their_region(sealed):
    sample = open_dataset(sealed, scale="niche", genes=None)[20]
    row, col = map(int, sample.record_id.split("_"))
    assert sample.tiles == {"region": f"{row // 2}_{col // 2}"}


def test_slides_are_chosen_and_ordered(sealed):
    dataset = open_dataset(sealed, slides=["s2", "s1"], image_size=None, genes=None)
    assert dataset[0].slide == "s2"
    assert dataset[-1].slide == "s1"
    assert {open_dataset(sealed, slides=["s2"], genes=None)[i].slide for i in (0, 239)} == {"s2"}


def test_a_batch_keeps_the_order_asked_for_with_repeats(sealed):
    dataset = open_dataset(sealed, image_size=9)
    wanted = [400, 3, 3, 241, 0]
    batch = dataset.__getitems__(wanted)
    assert isinstance(batch, Batch)
    for i, index in enumerate(wanted):
        alone, together = dataset[index], batch.sample(i)
        assert alone.key == together.key
        assert torch.equal(alone.image, together.image)
        assert torch.equal(alone.gene_count, together.gene_count)


def test_an_empty_batch_is_empty(sealed):
    batch = open_dataset(sealed, image_size=9).__getitems__([])
    assert len(batch) == 0
    assert batch.gene_offset.tolist() == [0]


@pytest.mark.parametrize("index", [480, -481])
def test_there_is_nothing_beyond_the_end(sealed, index):
    with pytest.raises(IndexError, match="the dataset has 480"):
        open_dataset(sealed)[index]


def test_a_pickle_is_a_path(sealed):
    dataset = open_dataset(sealed, split="train", image_size=12)
    dataset[0]
    data = pickle.dumps(dataset)
    assert len(data) < 600
    again = pickle.loads(data)
    assert torch.equal(again[7].image, dataset[7].image)
    assert len(again) == len(dataset)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "niches"}, "open_dataset: scale: unknown 'niches'; did you mean niche"),
        ({"split": "training"}, "open_dataset: split: unknown 'training'; did you mean train"),
        ({"slides": ["s9"]}, "open_dataset: slides: unknown 's9'"),
        ({"slides": []}, "no slide is named"),
        ({"genes": "packed"}, "open_dataset: genes: unknown 'packed'; choose from sparse, dense"),
        ({"image_size": 0}, "open_dataset: image_size: 0 is no size"),
    ],
)
def test_unknown_arguments_name_the_nearest(sealed, arguments, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(sealed, **arguments)


def test_no_dataset_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no manifest.json here; run seal_dataset"):
        open_dataset(tmp_path)


def test_a_changed_manifest_is_refused(own):
    path = own / "dataset/manifest.json"
    path.write_text(path.read_text().replace('"breast"', '"brain"'))
    with pytest.raises(InputError, match="its content was changed after it was sealed"):
        open_dataset(own)


def test_a_file_that_is_gone_is_named(own):
    (folder(own, "s2") / "metacells.parquet").unlink()
    with pytest.raises(InputError, match=r"metacells.parquet: the manifest names it, but it is not there"):
        open_dataset(own)


def test_a_table_of_another_length_is_refused(own):
    path = folder(own, "s1") / "metacells.parquet"
    write_parquet(path, pd.read_parquet(path).iloc[:-1])
    with pytest.raises(InputError, match="239 rows, the manifest states 240"):
        open_dataset(own)


def shorten(root: Path) -> None:
    shards = folder(root, "s1") / "shards/cell"
    for path in shards.iterdir():
        path.chmod(0o644)
    write_shards(shards, np.full(239, 8), np.ones((239, 30), dtype=np.int32), np.random.default_rng(0))


def test_a_missing_record_raises_and_is_never_zeros(own):
    dataset = open_dataset(own)
    shorten(own)
    with pytest.raises(InputError, match="the shards hold 239 records, their index 240"):
        dataset[0]


def test_a_damaged_record_raises(own):
    path = folder(own, "s1") / "shards/cell/0000.lmdb"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    stored = ShardReader(path.parent).raw(2)
    place = bytes(data).index(stored)
    data[place + len(stored) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="key 2: its checksum does not fit"):
        open_dataset(own)[2]
    assert open_dataset(own)[3].image is not None


def test_a_tile_of_two_sides_is_refused(own):
    path = own / "dataset/splits/s1.parquet"
    table = pd.read_parquet(path)
    table["split"] = np.where(np.arange(240) % 2, "train", "test")
    write_parquet(path, table)
    assert len(open_dataset(own)) == 480
    with pytest.raises(InputError, match=r"slide s1: region tile .* has cells of 2 splits"):
        open_dataset(own, scale="region")


def test_columns_are_arrays_and_not_objects(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None)
    for table in dataset._reader.columns.tables:
        assert table.xy_um.dtype == np.float32
        assert table.split.itemsize == 1
        assert table.ids.nbytes < 40 * len(table)
        assert all(ids.indices.type.bit_width <= 32 for ids in table.tiles.values())
