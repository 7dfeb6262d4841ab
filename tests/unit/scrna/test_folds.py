"""The division of genes: what is tested in a fold is shown in none of its other parts, on no slide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.scrna.folds import GENE_COLUMNS, by_expression, check_division, divide, draw_validation
from mistline.scrna.genes import expressed, is_constant, variances

N, N_FOLDS = 83, 5
REFERENCE = [f"R{number:03d}" for number in range(N + 20)]


def shared(slides=("s1", "s2")):
    """Two slides with other names for the genes, of which each lacks some."""
    parts = []
    for number, slide in enumerate(slides):
        own = [gene for row, gene in enumerate(REFERENCE[:N]) if row % 9 != number]
        genes = [f"{slide}-{gene}" for gene in own]
        parts.append(pd.DataFrame({"slide": slide, "gene": genes, "symbol": genes, "reference_gene": own}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def table():
    return divide(shared(), REFERENCE, N_FOLDS, 0.15, 0)


def test_every_gene_is_tested_once_and_never_shown_where_it_is_tested(table):
    check_division("x", table)
    assert tuple(table) == GENE_COLUMNS
    for (slide, fold), own in table.groupby(["slide", "fold"]):
        parts = {part: set(rows["reference_gene"]) for part, rows in own.groupby("part")}
        assert not parts["test"] & (parts["train"] | parts["val"]), (slide, fold)
        assert not parts["train"] & parts["val"]
        assert set().union(*parts.values()) == set(shared().query("slide == @slide")["reference_gene"])
    tested = table[table["part"] == "test"]
    assert not tested.duplicated(["slide", "gene"]).any()
    assert len(tested) == len(shared())


def test_a_gene_is_tested_in_one_fold_on_all_slides(table):
    together = table.groupby(["reference_gene", "fold"])["part"].nunique()
    assert together.max() == 1
    tested = table[table["part"] == "test"]
    both = tested.groupby("reference_gene")["slide"].nunique() == 2
    assert both.sum() > 50
    assert tested.groupby("reference_gene")["fold"].nunique().max() == 1


def test_folds_are_alike_and_validation_is_a_share_of_what_is_shown(table):
    once = table.drop_duplicates(["reference_gene", "fold"]).assign(
        rank=lambda rows: rows["reference_gene"].map(REFERENCE.index)
    )
    tested = once[once["part"] == "test"].groupby("fold")["rank"]
    assert tested.size().between(N // N_FOLDS, N // N_FOLDS + 1).all()
    assert np.ptp(tested.mean()) < N_FOLDS  # dealt by chance alone they would differ by about 15
    for _, fold in once.groupby("fold"):
        n = (fold["part"] != "test").sum()
        val = fold.loc[fold["part"] == "val", "rank"]
        assert len(val) == round(0.15 * n)
        assert (val < N / 2).sum() >= len(val) // 3
        assert (val >= N / 2).sum() >= len(val) // 3


def test_the_draw_is_the_seeds_and_genes_that_none_shares_change_nothing(table):
    pd.testing.assert_frame_equal(divide(shared(), REFERENCE, N_FOLDS, 0.15, 0), table)
    pd.testing.assert_frame_equal(divide(shared(), REFERENCE[:N], N_FOLDS, 0.15, 0), table)
    other = divide(shared(), REFERENCE, N_FOLDS, 0.15, 1)
    assert (other["part"] != table["part"]).mean() > 0.2
    backwards = divide(shared(("s2", "s1")), REFERENCE, N_FOLDS, 0.15, 0)
    assert set(backwards.query("part == 'test' and fold == 0")["reference_gene"]) == set(
        table.query("part == 'test' and fold == 0")["reference_gene"]
    )


def _shown(table):
    row = table.index[(table["part"] == "test") & (table["slide"] == "s1")][0]
    table.loc[row, "part"] = "train"


def _doubled(table):
    row = table.index[table["part"] == "test"][0]
    table.loc[len(table)] = table.loc[row].to_dict() | {"part": "train"}


def _same_reference(table):
    own = table[table["slide"] == "s1"]
    first, second = own["gene"].unique()[:2]
    table.loc[table["gene"] == second, "reference_gene"] = own.loc[own["gene"] == first, "reference_gene"].iloc[0]


def _swapped(table):
    on_second = table[(table["slide"] == "s2") & (table["part"] == "test")]
    first, other = on_second[on_second["fold"] == 0].iloc[0], on_second[on_second["fold"] == 1].iloc[0]
    for gene, test, train in ((first, 1, 0), (other, 0, 1)):
        for fold, part in ((test, "test"), (train, "train")):
            table.loc[(table["gene"] == gene["gene"]) & (table["fold"] == fold), "part"] = part


def _no_validation(table):
    table.loc[(table["fold"] == 2) & (table["slide"] == "s1") & (table["part"] == "val"), "part"] = "train"
    table.loc[(table["fold"] == 2) & (table["part"] == "val"), "part"] = "train"


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (_shown, "is not tested in exactly one of 5 folds"),
        (_doubled, "has two parts in one fold"),
        (_same_reference, "has two parts in one fold"),
        (_swapped, "is tested on one slide while another one shows it"),
        (_no_validation, "slide s1 has fewer than 1 genes of the part val in fold 2; ask for fewer folds"),
        (lambda table: table.loc.__setitem__((0, "part"), "tst"), "unknown part 'tst'"),
    ],
)
def test_a_division_that_leaks_is_refused(table, harm, sentence):
    harmed = table.copy()
    harm(harmed)
    with pytest.raises(InputError, match=sentence):
        check_division("genes.parquet", harmed)


def test_too_few_genes_for_the_folds():
    with pytest.raises(InputError, match="8 genes cannot be divided into 5 folds"):
        divide(shared(("s1",)).head(8), REFERENCE, 5, 0.15, 0)


def test_validation_keeps_one_gene_and_leaves_one():
    assert len(draw_validation(REFERENCE[:9], 0.0, 0)) == 1
    assert len(draw_validation(REFERENCE[:40], 0.25, 0)) == 10


def test_what_single_cells_tell_of_genes():
    values = sparse.csr_matrix(np.array([[0, 2, 5, 0], [0, 2, 0, 1], [0, 2, 0, 3]], dtype=np.int32))
    share, mean = expressed(values)
    assert share == pytest.approx([0, 1, 1 / 3, 2 / 3])
    assert mean == pytest.approx([0, 2, 5 / 3, 4 / 3])
    assert is_constant(values).tolist() == [True, True, False, False]
    assert variances(values) == pytest.approx(values.toarray().var(axis=0))
    assert by_expression(("a", "b", "c", "d"), share, mean) == ("a", "c", "d", "b")
