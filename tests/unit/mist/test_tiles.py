from __future__ import annotations

import numpy as np
import pytest

from mistline.config.scales import Scale
from mistline.core.hashing import hash_file
from mistline.mist import tiles
from mistline.mist.expression import CountsFile
from mistline.mist.pyramid import RowWindow
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter
from tests.unit.mist.painted import PIXEL_UM, SHAPE, Painted, paint

SIZES = {"niche": 256, "odd": 100, "region": 1024, "wide": 1280}
SCALES = [Scale(name="cell", unit="cell"), *(Scale(name=n, unit="grid", size_px=s) for n, s in SIZES.items())]


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Painted:
    return paint(tmp_path_factory.mktemp("painted"), n=150)


def _cut(slide: Painted, folder, name: str, threads: int = 1):
    grid = tiles.grid_of(slide.cells, PIXEL_UM, name, SIZES[name])
    with CountsFile(slide.counts_file) as counts, ShardWriter(folder, 0, 4.0) as writer:
        sums = tiles.cut(RowWindow(slide.image), grid, counts, writer, threads)
    return tiles.index_of(grid, sums, PIXEL_UM, SCALES, "s1", "d1")


def _members(slide: Painted, size: int) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for number, (x, y) in enumerate(zip(slide.cells.x_um, slide.cells.y_um, strict=True)):
        found.setdefault((int(y / PIXEL_UM // size), int(x / PIXEL_UM // size)), []).append(number)
    return found


@pytest.mark.parametrize("name", SIZES)
def test_tiles_hold_their_pixels_and_the_sum_of_their_cells(slide, tmp_path, name):
    size = SIZES[name]
    index = _cut(slide, tmp_path / "t", name)
    reader, members = ShardReader(tmp_path / "t"), _members(slide, size)
    assert list(zip(index.row, index.col, strict=True)) == sorted(members)  # every tile with a cell, no other
    padded = np.pad(slide.pixels, ((0, 0), (0, size), (0, size)))
    assert len(reader) == len(index)
    for key, row, column in index[["key", "row", "col"]].itertuples(index=False):
        record = reader[key]
        window = padded[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
        np.testing.assert_array_equal(record.image, window)
        dense = np.zeros(slide.counts.shape[1], np.int64)
        dense[record.gene_index] = record.gene_count
        expected = slide.counts[members[row, column]].sum(axis=0)
        np.testing.assert_array_equal(dense, expected)
        assert (record.gene_count > 0).all()
        found = index.loc[key, ["n_cells", "n_counts", "n_genes"]].tolist()
        assert found == [len(members[row, column]), expected.sum(), (expected > 0).sum()]


def test_empty_tiles_are_not_stored(slide, tmp_path):
    index = _cut(slide, tmp_path / "t", "odd")
    assert len(index) < (SHAPE[0] // 100 + 1) * (SHAPE[1] // 100 + 1)
    assert index.n_cells.min() == 1
    assert index.n_cells.sum() == len(slide.cells)


def test_the_index_has_centres_and_the_coarser_tiles(slide, tmp_path):
    index = _cut(slide, tmp_path / "t", "niche")
    assert list(index.columns) == [
        "key", "slide", "donor", "niche_id", "row", "col", "x_um", "y_um", "side_px", "n_cells", "n_counts", "n_genes",
        "region_id", "wide_id",
    ]  # fmt: skip
    np.testing.assert_allclose(index.x_um, (index.col + 0.5) * 256 * PIXEL_UM)
    np.testing.assert_allclose(index.y_um, (index.row + 0.5) * 256 * PIXEL_UM)
    assert (index.niche_id == index.row.astype(str) + "_" + index.col.astype(str)).all()
    assert (index.region_id == (index.row // 4).astype(str) + "_" + (index.col // 4).astype(str)).all()
    assert (index.wide_id == (index.row // 5).astype(str) + "_" + (index.col // 5).astype(str)).all()
    regions = _cut(slide, tmp_path / "r", "region")
    assert "wide_id" not in regions.columns  # 1,280 is no multiple of 1,024
    assert set(index.region_id) == set(regions.region_id)


@pytest.mark.parametrize("name", ["niche", "region"])
def test_bytes_do_not_depend_on_the_threads(slide, tmp_path, name):
    _cut(slide, tmp_path / "one", name)
    _cut(slide, tmp_path / "three", name, threads=3)
    assert hash_file(tmp_path / "one") == hash_file(tmp_path / "three")
