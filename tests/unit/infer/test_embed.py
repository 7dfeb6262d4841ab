from __future__ import annotations

import anndata
import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.infer.embed import write_blocks
from mistline.models.contract import Block
from mistline.store.embeddings import Origin, read_embedding, read_origin

ORIGIN = Origin("mine", 2, "sha", "v1")


def _blocks():
    z = np.arange(14, dtype=np.float32).reshape(7, 2)
    ids = [f"c{i}" for i in range(7)]
    return [Block(ids[:4], z[:4], {"z_image": z[:4] * 2}), Block(ids[4:], z[4:], {"z_image": z[4:] * 2})]


def test_both_files_hold_the_same_rows(tmp_path):
    write_blocks(_blocks(), tmp_path / "e.parquet", tmp_path / "e.h5ad", ORIGIN, 7)
    ids, rows = read_embedding(tmp_path / "e.parquet")
    table = anndata.read_h5ad(tmp_path / "e.h5ad")
    assert list(table.obs_names) == list(ids) == [f"c{i}" for i in range(7)]
    np.testing.assert_array_equal(table.X, rows)
    np.testing.assert_array_equal(table.obsm["z_image"], rows * 2)
    assert table.uns["model"] == "mine"
    assert table.uns["dataset_version"] == "v1"
    assert read_origin(tmp_path / "e.parquet") == ORIGIN


def test_same_blocks_same_bytes(tmp_path):
    for name in "ab":
        write_blocks(_blocks(), tmp_path / f"{name}.parquet", tmp_path / f"{name}.h5ad", ORIGIN, 7)
    for kind in ("parquet", "h5ad"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize("n_cells", [6, 8])
def test_a_wrong_number_of_cells_leaves_no_file(tmp_path, n_cells):
    with pytest.raises(InputError, match=f"7 of {n_cells} cells are embedded"):
        write_blocks(_blocks(), tmp_path / "e.parquet", tmp_path / "e.h5ad", ORIGIN, n_cells)
    assert list(tmp_path.iterdir()) == []


def test_no_cell_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="0 of 0 cells"):
        write_blocks([], tmp_path / "e.parquet", tmp_path / "e.h5ad", ORIGIN, 0)
    assert list(tmp_path.iterdir()) == []


def test_nan_leaves_no_file(tmp_path):
    blocks = _blocks()
    blocks[1].z[1, 0] = np.nan
    with pytest.raises(InputError, match="cell c5 is not finite"):
        write_blocks(blocks, tmp_path / "e.parquet", tmp_path / "e.h5ad", ORIGIN, 7)
    assert list(tmp_path.iterdir()) == []
