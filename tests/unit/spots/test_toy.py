from __future__ import annotations

import anndata
import numpy as np

from mistline.graphs.build import hexagonal
from mistline.spots.toy import LAYERS, toy_spots, write_tables


def test_two_donors_with_two_slides_of_every_layer():
    slides = toy_spots(20, 200)
    assert [(item.slide, item.donor) for item in slides] == [
        ("d0s0", "d0"), ("d0s1", "d0"), ("d1s0", "d1"), ("d1s1", "d1"),
    ]  # fmt: skip
    for item in slides:
        assert set(item.layer) == set(range(len(LAYERS)))
        assert np.diff(hexagonal(item.array_yx).indptr).max() == 6
        assert item.counts.data.min() >= 0


def test_same_seed_same_counts():
    first, again, other = (toy_spots(8, 200, seed)[1].counts for seed in (0, 0, 1))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_layers_lie_elsewhere_in_the_other_donor_and_have_markers():
    slides = toy_spots(20, 200)
    assert (slides[0].layer == slides[1].layer).mean() > 0.7
    assert (slides[0].layer == slides[2].layer).mean() < 0.4
    counts, layer = slides[0].counts.toarray(), slides[0].layer
    share = counts / counts.sum(axis=1, keepdims=True)
    marker = share[:, 24:36].sum(axis=1)  # of the third layer
    assert marker[layer == 2].mean() > 1.3 * marker[layer != 2].mean()


def test_tables_are_written_with_their_sheet(tmp_path):
    rows = write_tables(tmp_path / "tables", side=10, n_genes=200)
    assert [row["donor"] for row in rows] == ["d0", "d0", "d1", "d1"]
    table = anndata.read_h5ad(tmp_path / "tables" / rows[0]["table"])
    assert table.shape == (100, 200)
    assert table.obs["layer"].isna().sum() == 2
