from __future__ import annotations

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.data import open_dataset
from mistline.store.manifest import read_manifest
from mistline.store.reader import ShardReader
from tests.unit.spots.written import table, write_h5ad
from tests.unit.stages import patches as made
from tests.unit.stages.tables import read, split

PLACES = np.array([(50.0, 40.0), (2.0, 8.0), (30.0, 58.0)])  # x, y in pixels of an image of 60 rows x 100 columns


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    return made.write_image(tmp_path / "i.png", pixels), pixels


def spots(tmp_path, xy=PLACES, **options):
    data = table(len(xy), obsm={"spatial": np.asarray(xy, dtype=float)})
    return read(tmp_path, "s", write_h5ad(tmp_path / "s.h5ad", data), **({"um_per_unit": 2.0} | options))


def test_a_patch_is_the_square_around_its_place(tmp_path, image):
    folder = spots(tmp_path)
    about = made.cut(tmp_path, "s", image[0], patches={"side_um": 20.0, "size_px": 10})
    assert (about["side_px"], about["um_per_px"], about["records"], about["padded"]) == (10, 2.0, 3, 2)
    assert about["um_per_px_from"].startswith("um_per_unit")
    index = pd.read_parquet(folder / "shards/cell.parquet")
    cells = pd.read_parquet(folder / "cells.parquet")
    assert index["cell_id"].tolist() == cells["cell_id"].tolist()
    reader = ShardReader(folder / "shards/cell")
    padded = np.pad(image[1], ((10, 10), (10, 10), (0, 0)))
    for row in index.itertuples():
        x, y = row.x_um / 2, row.y_um / 2
        top, left = int(y) - 5 + 10, int(x) - 5 + 10
        expected = np.moveaxis(padded[top : top + 10, left : left + 10], 2, 0)
        record = reader[row.key]
        np.testing.assert_array_equal(record.image, expected)
        assert len(record.gene_index) == 0
        np.testing.assert_allclose((row.red, row.green, row.blue), expected.mean(axis=(1, 2)), rtol=1e-5)
        assert row.is_padded == ((x, y) != (50.0, 40.0))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_byte(tmp_path, image, threads):
    folder = spots(tmp_path)
    made.cut(tmp_path, "s", image[0], threads=1)
    before = hash_file(folder / "shards/cell/0000.lmdb")
    shutil.rmtree(folder / "shards")
    made.cut(tmp_path, "s", image[0], threads=threads)
    assert hash_file(folder / "shards/cell/0000.lmdb") == before


def test_the_image_may_be_coarser_than_the_coordinates(tmp_path, image):
    spots(tmp_path, PLACES * 4, um_per_unit=0.5)
    about = made.cut(tmp_path, "s", image[0], image_um_per_px=2.0, patches={"side_um": 20.0, "size_px": 16})
    assert (about["side_px"], about["size_px"], about["um_per_px"]) == (10, 16, 2.0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_every_form_of_image_gives_the_same_patches(tmp_path, suffix):
    pixels = made.paint(side=64)
    spots(tmp_path, [(20.0, 10.0), (40.0, 50.0), (30.0, 30.0)])
    made.cut(tmp_path, "s", made.write_image(tmp_path / f"i{suffix}", pixels), patches={"side_um": 16.0, "size_px": 8})
    found = ShardReader(tmp_path / "slides/s/shards/cell")[0].image
    row = pd.read_parquet(tmp_path / "slides/s/shards/cell.parquet").iloc[0]
    expected = np.moveaxis(pixels, 2, 0)[:, row.row_px : row.row_px + 8, row.col_px : row.col_px + 8]
    np.testing.assert_allclose(found.astype(float), expected, atol=30 if suffix == ".jpg" else 0)


def test_a_place_beyond_the_image_is_refused(tmp_path, image):
    folder = spots(tmp_path, [(50.0, 40.0), (50.0, 400.0), (30.0, 30.0)])
    with pytest.raises(InputError, match=r"cell c0-001: its patch lies wholly outside the image of 60 x 100 px"):
        made.cut(tmp_path, "s", image[0])
    assert not (folder / "shards/cell").exists()


def test_a_table_without_places_has_no_patches(tmp_path, image):
    read(tmp_path, "s", write_h5ad(tmp_path / "s.h5ad", table(10, obsm={})))
    with pytest.raises(InputError, match="its table has no coordinates on it"):
        made.cut(tmp_path, "s", image[0])


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("i.png", lambda data: data[:-200], "ends before its image does"),
        ("i.jpg", lambda data: data[: len(data) // 2], "ends before its image does"),
        ("i.png", lambda data: data[:300] + b"\0" * 200 + data[500:], "the image is damaged"),
        ("i.png", lambda data: b"GIF89a" + data, "no TIFF, JPEG or PNG"),
        ("i.tif", lambda data: data[: len(data) // 2], "tru|cut off|ends"),
    ],
)
def test_a_damaged_image_is_refused(tmp_path, name, spoil, said):
    folder = spots(tmp_path)
    path = made.write_image(tmp_path / name, made.paint(side=100))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=said):
        made.cut(tmp_path, "s", path)
    assert not (folder / "shards/cell.parquet").exists()


@pytest.mark.parametrize("pixels", [np.zeros((60, 60), np.uint8), np.zeros((60, 60, 3), np.uint16)])
def test_an_image_that_is_not_rgb_of_8_bits_is_refused(tmp_path, pixels):
    import imagecodecs

    spots(tmp_path)
    (tmp_path / "g.png").write_bytes(imagecodecs.png_encode(pixels))
    with pytest.raises(InputError, match="red, green and blue of 8 bits"):
        made.cut(tmp_path, "s", tmp_path / "g.png")
    with pytest.raises(InputError, match="no such file"):
        made.cut(tmp_path, "s", tmp_path / "absent.png")


def test_the_manifest_tells_of_patches(tmp_path):
    sealed = read_manifest(made.cohort(tmp_path))
    assert sealed.channels == ("red", "green", "blue")
    entry = sealed.slides["a"]["patches"]
    assert (entry["records"], entry["size_px"], entry["side_um"]) == (90, 16, 16.0)
    assert sealed.locate(entry["shards"]["path"]).is_dir()
    assert sealed.locate(entry["index"]["path"]).is_file()
    card = (tmp_path / "dataset/card.md").read_text()
    assert "images of 2 of 2 slides: a patch of 16 um (16 px)" in card
    assert "ShardReader" in card
    with pytest.raises(InputError, match="has patches, but no records with images and genes"):
        open_dataset(tmp_path / "dataset")
    assert not [text for text in json.dumps(sealed.content).split('"') if text.startswith("/")]


def test_patches_of_other_cells_are_not_sealed(tmp_path):
    donors = {"a": "da", "b": "db"}
    made.cohort(tmp_path)
    path = tmp_path / "slides/a/shards/cell.parquet"
    good = pd.read_parquet(path)
    good.assign(cell_id=np.roll(good["cell_id"], 1)).to_parquet(path)
    with pytest.raises(InputError, match="slide a, patches: cell_id of row 0"):
        made.seal(tmp_path, donors, ("a", "b"))
    good.assign(red=np.roll(good["red"], 1)).to_parquet(path)
    with pytest.raises(InputError, match="the record of key 0 is not the one"):
        made.seal(tmp_path, donors, ("a", "b"))
    good.to_parquet(path)
    store = anndata.read_h5ad(tmp_path / "slides/a/counts.h5ad")
    assert store.obs_names.tolist() == good["cell_id"].tolist()
    assert read_manifest(made.seal(tmp_path, donors, ("a",))).channels == ()  # one slide has none
    split(tmp_path, donors)
