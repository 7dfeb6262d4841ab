"""A slide and its single cells: what methods are given of a fold, and what is scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.mist.pair import draw_cells, open_pair, open_pairs, read_genes, read_names, read_reference
from mistline.scrna.folds import divide
from mistline.scrna.match import share
from tests.unit.scrna.pairs import GENES, N_SHARED, counts_of, write_counts, write_single, write_slide


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    reference = read_reference(write_single(root / "reference.h5ad"))
    tables = []
    for number, name in enumerate(("s1", "s2")):
        folder = write_slide(root / name, seed=number, skip=2 * number)
        own = share(name, read_names(folder / "counts.h5ad"), reference.names(), frozenset(), 1)
        rows = {"slide": name, "gene": own.genes, "symbol": own.symbols, "reference_gene": own.reference_genes}
        tables.append(pd.DataFrame(rows))
    genes = divide(pd.concat(tables, ignore_index=True), reference.by_expression(), 3, 0.15, 0)
    genes.to_parquet(root / "genes.parquet")
    return root, reference, genes


def _open(line, slide="s1", at_most=None):
    root, reference, genes = line
    return open_pair(slide, root / slide / "cells.parquet", root / slide / "counts.h5ad", reference, genes, at_most)


def test_a_view_holds_no_tested_gene_and_is_scaled_by_the_others_alone(line):
    pair, raw = _open(line), counts_of(40, 0).toarray()[:, :N_SHARED]
    assert pair.folds == (0, 1, 2)
    for fold in pair.folds:
        view = pair.view(fold)
        assert view.wanted == pair.tested(fold)
        assert not set(view.genes) & set(view.wanted)
        assert set(view.genes) | set(view.wanted) == set(GENES[:N_SHARED])
        columns = [GENES.index(gene) for gene in view.genes]
        own = raw[:, columns]
        assert view.spatial == pytest.approx(np.log1p(own / own.sum(axis=1, keepdims=True) * 1e4), rel=1e-6)
        assert np.array_equal(view.counts.toarray(), own)
        assert view.is_val.sum() == round(0.15 * len(view.genes))
        tested = raw[:, [GENES.index(gene) for gene in view.wanted]]
        assert pair.truth(fold) == pytest.approx(np.log1p(tested / own.sum(axis=1, keepdims=True) * 1e4), rel=1e-6)


def test_single_cells_are_scaled_by_all_their_genes(line):
    view, raw = _open(line).view(1), counts_of(90, 9).toarray()
    whole = np.log1p(raw / raw.sum(axis=1, keepdims=True) * 1e4)
    for genes, found, counts in (
        (view.genes, view.reference, view.reference_counts),
        (view.wanted, view.wanted_reference, view.wanted_counts),
    ):
        columns = [GENES.index(gene) for gene in genes]
        assert found == pytest.approx(whole[:, columns], rel=1e-6)
        assert np.array_equal(counts.toarray(), raw[:, columns])


def test_values_of_tested_genes_change_no_bit_of_a_view(line, tmp_path):
    root, reference, genes = line
    pair = _open(line)
    shut = [GENES.index(gene) for gene in pair.tested(2)]
    changed = counts_of(40, 0).tolil()
    changed[:, shut] = 777
    other = write_counts(tmp_path / "c.h5ad", changed.tocsr()[:, :N_SHARED], GENES[:N_SHARED], "s1", "counts")
    found = open_pair("s1", root / "s1/cells.parquet", other, reference, genes, None)
    assert (found.truth(2) != pair.truth(2)).all()
    for one, two in ((pair.view(2), found.view(2)), (pair.view(2), pair.view(2, canary=True))):
        assert one.spatial.tobytes() == two.spatial.tobytes()
        assert np.array_equal(one.counts.toarray(), two.counts.toarray())


def test_drawn_cells_are_the_same_whatever_the_order_and_the_sample_lies_in_a_larger_one(line):
    ids = [f"c{number}" for number in range(100)]
    few, more = draw_cells(ids, 10), draw_cells(ids, 30)
    assert set(few.tolist()) < set(more.tolist())
    assert (np.diff(few) > 0).all()
    backwards = draw_cells(ids[::-1], 10)
    assert {ids[row] for row in few} == {ids[::-1][row] for row in backwards}
    pair, whole = _open(line, at_most=12), _open(line)
    rows = [whole.cell_id.tolist().index(cell) for cell in pair.cell_id.tolist()]
    assert len(rows) == 12
    assert np.array_equal(pair.view(0).spatial, whole.view(0).spatial[rows])
    assert np.array_equal(pair.xy_um, whole.xy_um[rows])


@pytest.mark.parametrize("values", ["normalised", "log"])
def test_values_that_are_no_counts_are_given_as_such(tmp_path, line, values):
    reference = read_reference(write_single(tmp_path / "r.h5ad", values=values))
    folder = write_slide(tmp_path / "s1", values=values)
    pair = open_pair("s1", folder / "cells.parquet", folder / "counts.h5ad", reference, line[2], None)
    view, raw = pair.view(0), counts_of(40, 0).toarray()
    columns = [GENES.index(gene) for gene in view.genes]
    assert (view.counts, view.reference_counts, view.wanted_counts) == (None, None, None)
    expected = raw[:, columns] if values == "log" else np.log1p(raw[:, columns])
    assert view.spatial == pytest.approx(expected)
    assert pair.truth(0).shape == (40, len(view.wanted))
    whole = counts_of(90, 9).toarray()
    assert reference.variances() == pytest.approx((whole if values == "log" else np.log1p(whole)).var(axis=0), rel=1e-5)


def test_slides_come_one_by_one_and_those_that_are_not_judged_are_left_out(line):
    root, _, genes = line
    files = {name: (root / name / "cells.parquet", root / name / "counts.h5ad") for name in ("s2", "s1", "s3")}
    found = list(open_pairs(files, root / "reference.h5ad", root / "genes.parquet", 5))
    assert [(pair.slide, len(pair.cell_id)) for pair in found] == [("s2", 5), ("s1", 5)]
    with pytest.raises(InputError, match="slide s2 is not among those given"):
        list(open_pairs({"s1": files["s1"]}, root / "reference.h5ad", root / "genes.parquet", 5))
    with pytest.raises(InputError, match="no gene of it was divided"):
        open_pair("s3", *files["s1"], line[1], genes, None)


def test_files_that_do_not_belong_together_are_one_sentence(line, tmp_path):
    root, reference, genes = line
    other = write_slide(tmp_path / "other")
    with pytest.raises(InputError, match="cell s10000 is not in it"):
        open_pair("s1", other / "cells.parquet", root / "s1/counts.h5ad", reference, genes, None)
    lacking = write_slide(tmp_path / "s1", skip=3)
    with pytest.raises(InputError, match=f"gene {GENES[0]} is not measured here"):
        open_pair("s1", lacking / "cells.parquet", lacking / "counts.h5ad", reference, genes, None)
    genes.drop(columns="part").to_parquet(tmp_path / "g.parquet")
    with pytest.raises(InputError, match="run fold-genes again"):
        read_genes(tmp_path / "g.parquet")
    shown = genes.assign(part="train")
    shown.to_parquet(tmp_path / "g.parquet")
    with pytest.raises(InputError, match="not tested in exactly one of 3 folds"):
        read_genes(tmp_path / "g.parquet")
