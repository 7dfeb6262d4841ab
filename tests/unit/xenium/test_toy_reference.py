"""Single cells beside a toy cohort."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pytest

from mistline.core.hashing import hash_file
from mistline.xenium.toy import ToySlide
from mistline.xenium.toy.panel import CELL_TYPES, DOMAINS, build_panel
from mistline.xenium.toy.reference import (
    CELLS_OF_A_TYPE,
    DOMAIN_FOLD,
    MARKER_MEAN,
    OTHER_MEAN,
    SingleCells,
    draw_single_cells,
    unmeasured_domain_gene,
    unmeasured_markers,
    write_reference,
)

SLIDE = ToySlide(n_addon=8)


@pytest.fixture(scope="module")
def cells() -> SingleCells:
    return draw_single_cells(SLIDE)


def test_they_measure_the_shared_panel_and_genes_that_no_panel_has(cells):
    panel = build_panel(SLIDE)
    shared = SLIDE.n_genes
    assert cells.ids[:shared] == panel.ids[:shared]
    assert not set(cells.ids[shared:]) & set(panel.ids)
    assert len(set(cells.symbols)) == len(cells.ids) == shared + 20
    assert not set(cells.symbols[shared:]) & set(panel.symbols)
    assert all(name.startswith("ENSG") and len(name) == 15 for name in cells.ids)
    named = draw_single_cells(dataclasses.replace(SLIDE, symbols_as_ids=True))
    assert named.ids == named.symbols == cells.symbols


def test_unmeasured_genes_are_the_announced_functions_of_type_and_domain(cells):
    column = {symbol: number for number, symbol in enumerate(cells.symbols)}
    for row, name in enumerate(CELL_TYPES):
        own = cells.counts[:, [column[symbol] for symbol in unmeasured_markers(name)]]
        fold = own[cells.types == row].mean() / own[cells.types != row].mean()
        assert fold == pytest.approx(MARKER_MEAN / OTHER_MEAN, rel=0.35)
    for row, name in enumerate(DOMAINS):
        own = cells.counts[:, column[unmeasured_domain_gene(name)]]
        fold = own[cells.domains == row].mean() / own[cells.domains != row].mean()
        assert fold == pytest.approx(DOMAIN_FOLD, rel=0.35)


def test_every_type_is_there_as_often_and_two_donors_differ(cells):
    assert np.bincount(cells.types).tolist() == [CELLS_OF_A_TYPE] * len(CELL_TYPES)
    first, other = (cells.counts[cells.donors == donor].mean(axis=0) + 0.1 for donor in (0, 1))
    assert np.abs(np.log(first / other)).mean() > 0.1


def test_the_file_is_the_same_again_and_tells_no_places(cells, tmp_path):
    for name in ("one", "two"):
        write_reference(tmp_path / f"{name}.h5ad", SLIDE)
    assert hash_file(tmp_path / "one.h5ad") == hash_file(tmp_path / "two.h5ad")
    table = anndata.read_h5ad(tmp_path / "one.h5ad")
    assert (table.X.toarray() == cells.counts).all()
    assert table.var["symbol"].tolist() == list(cells.symbols)
    assert sorted(table.obs) == ["cell_type", "donor"]
    assert not table.obsm
