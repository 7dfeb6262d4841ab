from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from tests.unit.data.conftest import Slide, gene_names, run_assign, run_fit, run_splits, write_slide


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    slide = Slide("s1", "d1")
    write_slide(tmp_path, slide)
    run_splits(tmp_path, [slide])
    run_fit(tmp_path, [slide])
    return slide


def test_every_cell_has_its_metacell_and_its_levels(slide, tmp_path):
    found = run_assign(tmp_path, slide)
    vocabulary = anndata.read_h5ad(tmp_path / "dataset/metacells.h5ad")
    cells = pd.read_parquet(tmp_path / "slides/s1/cells.parquet")
    assert list(found) == ["cell_id", "metacell", "l1", "l2", "l3", "distance"]
    assert found["cell_id"].tolist() == cells["cell_id"].tolist()
    for level in ("l1", "l2", "l3"):
        np.testing.assert_array_equal(found[level], vocabulary.obs[level].to_numpy()[found["metacell"]])
    assert (found["distance"] >= 0).all()


def test_training_cells_are_assigned_as_they_were_counted(slide, tmp_path):
    found = run_assign(tmp_path, slide)
    vocabulary = anndata.read_h5ad(tmp_path / "dataset/metacells.h5ad")
    train = (pd.read_parquet(tmp_path / "dataset/splits/s1.parquet")["split"] == "train").to_numpy()
    counts = np.bincount(found["metacell"][train], minlength=len(vocabulary))
    # Centres are means after the last assignment, so a few cells at a border may change side.
    assert np.abs(counts - vocabulary.obs["n_cells"]).sum() <= 0.1 * train.sum()


def test_the_bytes_do_not_depend_on_the_threads(slide, tmp_path):
    path = tmp_path / "slides/s1/metacells.parquet"
    run_assign(tmp_path, slide, threads=1)
    one = path.read_bytes()
    run_assign(tmp_path, slide, threads=3)
    assert path.read_bytes() == one


def test_a_slide_of_another_panel_is_refused_when_it_lacks_half_of_the_genes(slide, tmp_path):
    other = Slide("s2", "d2", genes=gene_names(30, 20))
    write_slide(tmp_path, other)
    with pytest.raises(InputError, match="its panel lacks 20 of the 30 genes of the meta-cells"):
        run_assign(tmp_path, other)
    assert not (tmp_path / "slides/s2/metacells.parquet").exists()


def test_a_slide_that_lacks_a_few_genes_is_assigned_by_the_others(slide, tmp_path, caplog):
    other = Slide("s2", "d2", genes=gene_names(27, 3))
    write_slide(tmp_path, other)
    found = run_assign(tmp_path, other)
    assert len(found) == other.n
    assert "3 of 30 meta-cell genes are not on its panel" in caplog.text


def test_counts_of_other_cells_are_refused(slide, tmp_path):
    path = tmp_path / "slides/s1/cells.parquet"
    write_parquet(path, pd.read_parquet(path).iloc[::-1])
    with pytest.raises(InputError, match="it lists other cells than"):
        run_assign(tmp_path, slide)
