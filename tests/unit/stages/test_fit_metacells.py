from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.stages import fit_metacells
from tests.unit.data.conftest import METACELLS, Slide, gene_names, run_fit, run_splits, write_counts, write_slide


@pytest.fixture
def slides(tmp_path: Path) -> list[Slide]:
    slides = [Slide("s1", "d1"), Slide("s2", "d2", genes=gene_names(28, 2), labels=False)]
    for slide in slides:
        write_slide(tmp_path, slide)
    run_splits(tmp_path, slides)
    return slides


def test_the_file_holds_what_the_contract_says(slides, tmp_path):
    quality = run_fit(tmp_path, slides)
    found = anndata.read_h5ad(tmp_path / "dataset/metacells.h5ad")
    assert found.shape == (quality["n_metacells"], 28)
    assert list(found.obs) == ["n_cells", "l1", "l2", "l3"]
    assert found.obsm["X_pca"].shape == (quality["n_metacells"], 8)
    assert found.varm["PCs"].shape == (28, 8)
    assert {"symbol", "mean"} <= set(found.var)
    assert found.uns["target_sum"] == quality["target_sum"]
    assert quality["levels"] == {"l1": 6, "l2": 4, "l3": 3}


def test_quality_is_given_apart_for_training_and_held_out_cells(slides, tmp_path):
    quality = run_fit(tmp_path, slides)
    side = pd.concat([pd.read_parquet(tmp_path / f"dataset/splits/{s.name}.parquet")["split"] for s in slides])
    assert quality["train"]["n_cells"] == (side == "train").sum()
    assert quality["held_out"]["n_cells"] == side.isin(["val", "test"]).sum()
    for part in ("train", "held_out"):
        assert 0.5 < quality[part]["gene_pcc"]["mean"] <= 1
        assert 0 < quality[part]["variance_kept"]["quantised"] < quality[part]["variance_kept"]["pca"] < 1
        assert quality[part]["labels"]["type"]["purity"] > 0.9
    assert quality["labels_skipped"] == ["size"]


def test_the_bytes_depend_neither_on_threads_nor_on_the_run(slides, tmp_path):
    seen = set()
    for threads in (1, 3, 1):
        run_fit(tmp_path, slides, threads=threads)
        seen.add(
            (tmp_path / "dataset/metacells.h5ad").read_bytes() + (tmp_path / "dataset/metacells.json").read_bytes()
        )
    assert len(seen) == 1


def test_changing_a_test_cell_changes_no_byte_of_the_vocabulary(slides, tmp_path):
    run_fit(tmp_path, slides)
    before = (tmp_path / "dataset/metacells.h5ad").read_bytes()
    held_out = (pd.read_parquet(tmp_path / "dataset/splits/s1.parquet")["split"] != "train").to_numpy()
    data = anndata.read_h5ad(tmp_path / "slides/s1/counts.h5ad")
    counts = data.X.toarray()
    counts[held_out] = np.random.default_rng(1).integers(0, 50, counts[held_out].shape)
    write_counts(tmp_path / "slides/s1/counts.h5ad", pd.Series(data.obs_names), slides[0].genes, counts)
    run_fit(tmp_path, slides)
    assert (tmp_path / "dataset/metacells.h5ad").read_bytes() == before


def test_changing_a_training_cell_does(slides, tmp_path):
    run_fit(tmp_path, slides)
    before = (tmp_path / "dataset/metacells.h5ad").read_bytes()
    train = (pd.read_parquet(tmp_path / "dataset/splits/s1.parquet")["split"] == "train").to_numpy()
    data = anndata.read_h5ad(tmp_path / "slides/s1/counts.h5ad")
    counts = data.X.toarray()
    counts[np.flatnonzero(train)[0]] += 30
    write_counts(tmp_path / "slides/s1/counts.h5ad", pd.Series(data.obs_names), slides[0].genes, counts)
    run_fit(tmp_path, slides)
    assert (tmp_path / "dataset/metacells.h5ad").read_bytes() != before


def test_a_split_file_of_other_cells_is_refused(slides, tmp_path):
    path = tmp_path / "dataset/splits/s1.parquet"
    write_parquet(path, pd.read_parquet(path).iloc[::-1])
    with pytest.raises(InputError, match=r"s1.parquet: it lists other cells than counts.h5ad; run make_splits"):
        run_fit(tmp_path, slides)
    assert not (tmp_path / "dataset/metacells.h5ad").exists()


def test_slides_without_common_genes_are_refused(slides, tmp_path):
    slides.append(Slide("s3", "d3", genes=gene_names(30, 22)))
    write_slide(tmp_path, slides[-1])
    run_splits(tmp_path, slides)
    with pytest.raises(InputError, match="only 8 genes were measured on each of the 3 training slides"):
        run_fit(tmp_path, slides)


def test_too_many_centres_are_refused(slides, tmp_path):
    with pytest.raises(InputError, match="centres were asked for, but there are"):
        run_fit(tmp_path, slides, {**METACELLS, "n_metacells": 5000})


def test_options_of_different_lengths_are_refused(slides, tmp_path):
    with pytest.raises(ConfigError, match="1 slides, 0 counts, 0 cells and 0 splits"):
        fit_metacells.run(
            slide=["s1"], counts=[], cells=[], splits=[], metacells=tmp_path, quality=tmp_path, params="{}"
        )
