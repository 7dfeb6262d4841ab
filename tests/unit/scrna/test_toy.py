from __future__ import annotations

import anndata
import numpy as np
import pytest

from mistline.core.hashing import hash_file
from mistline.scrna.guarded import log_normalised
from mistline.scrna.toy import REFERENCE_FILE, ToyPair, make_pair, write_pair
from mistline.scrna.view import TARGET_SUM

SMALL = {"n_cells": 160, "side": 12, "n_genes": 40, "n_graded": 6, "n_unmeasured": 4}


@pytest.fixture(scope="module")
def pair() -> ToyPair:
    return make_pair(3, side=20)


def by_gene(told: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return [G] correlations."""
    z = [(values - values.mean(axis=0)) / values.std(axis=0) for values in (told, truth)]
    return (z[0] * z[1]).mean(axis=0)


def test_the_pair_is_of_the_sizes_asked_for_and_its_genes_agree(pair):
    assert pair.reference.shape == (1200, 160)
    assert pair.counts.shape == (400, 150)
    assert pair.rates.shape == pair.explained.shape == (400, 160)
    assert len(pair.graded) == 20
    assert set(pair.graded) <= set(pair.measured)
    assert not set(pair.measured) & set(pair.unmeasured)
    np.testing.assert_allclose(pair.shares.sum(axis=1), 1)
    assert np.ptp(pair.xy_um, axis=0).tolist() == [1900, 1900]


def test_counts_are_drawn_around_what_is_expected(pair):
    expected = pair.rates[:, : pair.n_measured]
    drawn = (pair.counts.toarray() - expected) / np.sqrt(expected)
    assert abs(drawn.mean()) < 0.02
    assert drawn.std() == pytest.approx(1, abs=0.02)


def test_types_are_alike_in_neighbouring_spots(pair):
    grid = pair.shares.reshape(20, 20, -1)
    near = np.abs(np.diff(grid, axis=0)).mean()
    assert near < 0.3 * np.abs(grid[:10] - grid[10:]).mean()


def test_single_cells_explain_every_gene_but_the_graded_ones(pair):
    """The truth's own ceiling, and what of it is left to whoever knows types alone."""
    truth = log_normalised(pair.counts, "counts", TARGET_SUM)
    names = np.array(pair.measured)
    graded = np.isin(names, pair.graded)
    best, types = (
        by_gene(
            np.log1p(TARGET_SUM * rates[:, : len(names)] / rates[:, : len(names)].sum(axis=1, keepdims=True)), truth
        )
        for rates in (pair.rates, pair.explained)
    )
    assert best.mean() > 0.5
    assert types[~graded].mean() > best[~graded].mean() - 0.03
    assert types[graded].mean() < best[graded].mean() - 0.15
    assert types[graded].mean() > 0.1


def test_same_seed_same_files_and_another_seed_others(tmp_path):
    rows = [write_pair(tmp_path / name, seed, **SMALL) for name, seed in (("a", 0), ("again", 0), ("b", 1))]
    assert rows[0] == rows[1]
    for name in (rows[0][0]["table"], REFERENCE_FILE):
        assert hash_file(tmp_path / "a" / name) == hash_file(tmp_path / "again" / name)
        assert hash_file(tmp_path / "a" / name) != hash_file(tmp_path / "b" / name)
    slide, single = (anndata.read_h5ad(tmp_path / "a" / name) for name in (rows[0][0]["table"], REFERENCE_FILE))
    assert slide.shape == (144, 40)
    assert single.shape == (160, 44)
    assert set(slide.var_names) < set(single.var_names)
    assert "spatial" in slide.obsm
    assert "spatial" not in single.obsm
