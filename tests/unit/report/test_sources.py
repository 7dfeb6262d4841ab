"""Reading small parts, and refusing what does not fit."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.report import sources
from tests.unit.report.tree import N_CELLS, PIXEL_UM, SHAPE, write_tree


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "results")


def open_first(tree):
    return sources.open_slide(tree.root, tree.root / "dataset/splits", tree.entries[0], ["niche", "region"])


def test_a_slide_knows_its_tiles(tree):
    slide = open_first(tree)
    assert dict(slide.tiles) == {"niche": 1, "region": 1}
    assert slide.channel == "DAPI"


def test_counts_that_do_not_add_up_are_refused(tree):
    path = tree.root / "slides/s1/cells.json"
    write_json(path, read_json(path) | {"n_read": N_CELLS})
    with pytest.raises(InputError, match="40 cells read are not 40 kept and 3 excluded"):
        open_first(tree)


def test_small_images_are_read_whole(tree):
    overview = sources.read_overview(open_first(tree))
    assert overview.pixels.shape == SHAPE
    assert overview.um_per_px == PIXEL_UM
    assert overview.extent_um == pytest.approx((0, 300 * PIXEL_UM, 220 * PIXEL_UM, 0))


def test_large_images_are_read_at_a_coarse_level(tree, monkeypatch):
    shape = (3000, 1400)
    folder = tree.root / "slides/s1/image.ome.zarr"
    for item in sorted(folder.rglob("*"), reverse=True):
        item.unlink() if item.is_file() else item.rmdir()
    folder.rmdir()
    levels = create(folder, Description("s1", ["DAPI"], shape, PIXEL_UM))
    writer = LevelWriter(levels, 0)
    pixels = np.tile(np.linspace(0, 255, shape[0]).astype(np.uint8)[:, None], (1, shape[1]))
    for start in range(0, shape[0], 1024):
        writer.append(pixels[start : start + 1024])
    writer.finish()
    overview = sources.read_overview(open_first(tree))
    assert overview.pixels.shape == (1000, 467)
    assert overview.um_per_px * overview.pixels.shape[1] == pytest.approx(shape[1] * PIXEL_UM, rel=0.002)
    assert np.all(np.diff(overview.pixels[:, 5].astype(int)) >= 0)


def test_a_pyramid_that_is_none_is_refused(tree):
    (tree.root / "slides/s1/image.ome.zarr/zarr.json").unlink()
    with pytest.raises(InputError, match="not a readable image pyramid"):
        sources.read_overview(open_first(tree))


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json", "0/c/0/0/0"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_pyramid_is_refused(tree, name, share):
    path = tree.root / "slides/s1/image.ome.zarr" / name
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(InputError, match=r"slides/s1/image\.ome\.zarr: "):
        sources.read_overview(open_first(tree))


def test_rows_come_in_the_order_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"key": range(100)}).to_parquet(path, row_group_size=7)
    assert sources.read_rows(path, [93, 4, 50]).key.tolist() == [93, 4, 50]


def test_missing_and_damaged_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        sources.n_rows(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="not a readable parquet file"):
        sources.n_rows(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="not a readable parquet file"):
        sources.read_rows(tmp_path / "bad.parquet", [0])


def test_genes_of_no_training_slide_are_counted(tree):
    splits = read_json(tree.root / "dataset/splits.json")
    assert sources.unseen_genes(tree.root / "dataset/genes.parquet", splits) == {"s1": 0, "s2": 3}
