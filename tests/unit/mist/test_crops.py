from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistline.config.crops import Crops
from mistline.config.scales import DEFAULT_SCALES
from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.mist import crops
from mistline.mist.expression import CountsFile
from mistline.mist.pyramid import RowWindow
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter
from tests.unit.mist.painted import PIXEL_UM, SHAPE, Painted, mark, paint


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Painted:
    return paint(tmp_path_factory.mktemp("painted"))


def _cut(slide: Painted, folder, settings: Crops = Crops(), threads: int = 1, cells=None) -> pd.DataFrame:  # noqa: B008
    cells = slide.cells if cells is None else cells
    squares = crops.boxes(cells, PIXEL_UM, settings)
    index = crops.index_of(cells, squares, PIXEL_UM, DEFAULT_SCALES, "s1", "d1")
    with CountsFile(slide.counts_file) as counts, ShardWriter(folder, 0, 4.0) as writer:
        crops.cut(RowWindow(slide.image), index, PIXEL_UM, counts, writer, threads)
    return index


@pytest.fixture(scope="module")
def cut(slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "cell"
    return _cut(slide, folder), ShardReader(folder)


def test_each_crop_holds_its_own_cells_mark(slide, cut):
    index, reader = cut
    assert len(reader) == len(slide.cells)
    for key in range(len(reader)):
        side = index.side_px[key]
        centre = reader[key].image[:, side // 2, side // 2]
        assert tuple(centre) == mark(key)


def test_each_crop_is_the_image_with_zeros_beyond_the_border(slide, cut):
    index, reader = cut
    pad = 100
    padded = np.pad(slide.pixels, ((0, 0), (pad, pad), (pad, pad)))
    outside = 0
    for key, row, column, side in index[["key", "row_px", "col_px", "side_px"]].itertuples(index=False):
        expected = padded[:, row + pad : row + pad + side, column + pad : column + pad + side]
        np.testing.assert_array_equal(reader[key].image, expected)
        outside += row < 0 or column < 0 or row + side > SHAPE[0] or column + side > SHAPE[1]
    assert outside >= 10  # the slide has cells at its borders


def test_genes_are_the_cells_own(slide, cut):
    _, reader = cut
    for key in range(len(reader)):
        dense = np.zeros(slide.counts.shape[1], np.int64)
        dense[reader[key].gene_index] = reader[key].gene_count
        np.testing.assert_array_equal(dense, slide.counts[key])


def test_the_index_names_place_tile_and_size(slide, cut):
    index, _ = cut
    assert list(index.columns) == [
        "key", "slide", "donor", "cell_id", "x_um", "y_um", "row_px", "col_px", "side_px", "side_um", "n_counts",
        "n_genes", "niche_id", "region_id",
    ]  # fmt: skip
    assert index.key.dtype == np.int64
    np.testing.assert_array_equal(index.key, np.arange(len(slide.cells)))
    assert (index.cell_id == slide.cells.cell_id).all()
    np.testing.assert_allclose(index.side_um, index.side_px * PIXEL_UM)
    row, column = slide.cells.y_um / PIXEL_UM // 256, slide.cells.x_um / PIXEL_UM // 256
    assert (index.niche_id == [f"{int(r)}_{int(c)}" for r, c in zip(row, column, strict=True)]).all()
    assert (index.region_id == [f"{int(r) // 4}_{int(c) // 4}" for r, c in zip(row, column, strict=True)]).all()


def test_bytes_do_not_depend_on_the_threads(slide, cut, tmp_path):
    _cut(slide, tmp_path / "s", threads=3)
    assert hash_file(tmp_path / "s") == hash_file(cut[1].folder)


def test_small_groups_give_the_same_bytes(slide, cut, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "_GROUP_CELLS", 37)
    monkeypatch.setattr(crops, "_PIECE_CELLS", 5)
    _cut(slide, tmp_path / "s", threads=2)
    assert hash_file(tmp_path / "s") == hash_file(cut[1].folder)


EXTENTS = st.floats(0.5, 400)


@given(st.lists(st.tuples(st.floats(-20, 9000), st.floats(-20, 9000), EXTENTS, EXTENTS), min_size=1, max_size=20),
       st.floats(1, 4), st.integers(2, 64))  # fmt: skip
def test_a_square_contains_its_polygon_and_is_no_larger_than_asked(rows, context, smallest):
    x, y, width, height = np.array(rows).T
    cells = pd.DataFrame({"x_min_um": x, "y_min_um": y, "x_max_um": x + width, "y_max_um": y + height})
    found = crops.boxes(cells, PIXEL_UM, Crops(context=context, min_side_px=smallest))
    low = np.stack([y, x], 1) / PIXEL_UM
    high = np.stack([y + height, x + width], 1) / PIXEL_UM
    corner, side = found[["row_px", "col_px"]].to_numpy(), found[["side_px"]].to_numpy()
    assert (corner <= low + 1e-5).all()
    assert (corner + side >= high - 1e-5).all()
    assert (np.abs(corner + side / 2 - (low + high) / 2) <= 1).all()
    extent = (high - low).max(axis=1)
    assert (side[:, 0] >= np.maximum(extent * context - 1e-5, smallest)).all()
    assert (side[:, 0] <= np.maximum(np.maximum(extent * context + 1, extent + 2), smallest)).all()


def test_a_box_on_pixel_edges_is_cut_to_the_pixel():
    edges = {"x_min_um": [300.0], "y_min_um": [100.0], "x_max_um": [330.0], "y_max_um": [120.0]}
    cells = pd.DataFrame(edges) * PIXEL_UM
    assert crops.boxes(cells, PIXEL_UM, Crops()).to_numpy().tolist() == [[95, 300, 30]]


def test_a_polygon_outside_the_image_is_refused(slide, tmp_path):
    cells = slide.cells.copy()
    cells.loc[7, ["x_min_um", "x_max_um"]] += 3000 * PIXEL_UM
    with pytest.raises(InputError, match="c0007-1: its polygon lies outside"):
        _cut(slide, tmp_path / "s", cells=cells)
    assert not (tmp_path / "s").exists()


def test_counts_of_other_cells_are_refused(slide, tmp_path):
    cells = slide.cells.copy()
    cells["n_counts"] = np.roll(cells["n_counts"], 1)
    with pytest.raises(InputError, match="n_counts"):
        _cut(slide, tmp_path / "s", cells=cells)
    with CountsFile(slide.counts_file) as counts, pytest.raises(InputError, match=r"not those of cells\.parquet"):
        crops.require_same_cells(slide.cells[::-1], counts, "cells.parquet")
