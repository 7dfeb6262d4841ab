"""Single cells as users give them: what is wrong with them is said in a sentence."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.mist.pair import read_reference
from mistline.mist.reference import describe, read_given, write_reference
from tests.unit.scrna.pairs import GENES, counts_of

COUNTS = counts_of(30, 3)


def given(path, matrix=COUNTS, **changes):
    obs = pd.DataFrame(index=[f"c{number:02d}" for number in range(matrix.shape[0])])
    made = {"X": matrix, "obs": obs, "var": pd.DataFrame(index=list(GENES))}
    data = anndata.AnnData(**made | changes)
    data.write_h5ad(path)
    return path


def test_cells_come_in_one_order_and_empty_ones_are_left_out_and_counted(tmp_path):
    matrix = COUNTS.tolil()
    matrix[4] = 0
    path = given(tmp_path / "r.h5ad", matrix.tocsr())
    cells = read_given(path, "counts")
    write_reference(tmp_path / "counts.h5ad", cells, "counts")
    found = read_reference(tmp_path / "counts.h5ad")
    assert found.cell_id.tolist() == [f"c{number:02d}" for number in range(30) if number != 4]
    assert np.array_equal(found.counts.toarray(), np.delete(COUNTS.toarray(), 4, axis=0))
    told = describe(path, cells, "counts")
    assert (told["n_cells"], told["n_empty_cells"], told["n_genes"], told["file"]) == (29, 1, 30, "r.h5ad")
    assert (told["gene_ids"], told["ensembl_prefixes"]) == ("ensembl", {"ENSG": 30})
    assert told["depth"]["median"] == np.median(np.delete(COUNTS.toarray(), 4, axis=0).sum(axis=1))
    anndata.read_h5ad(path)[::-1, ::-1].copy().write_h5ad(tmp_path / "back.h5ad")
    write_reference(tmp_path / "again.h5ad", read_given(tmp_path / "back.h5ad", "counts"), "counts")
    assert hash_file(tmp_path / "again.h5ad") == hash_file(tmp_path / "counts.h5ad")


def test_places_of_single_cells_are_passed_over(tmp_path):
    path = given(tmp_path / "r.h5ad", obsm={"spatial": np.zeros((30, 2))})  # no unit is said: a slide is refused
    assert len(read_given(path, "counts").cell_id) == 30


@pytest.mark.parametrize(
    ("changes", "values", "sentence"),
    [
        ({"matrix": COUNTS[:0]}, "counts", "it holds no cell; leave"),
        ({"matrix": sparse.csr_matrix((3, 30))}, "counts", "it holds no cell with a value"),
        ({"matrix": COUNTS * 0.5}, "counts", "a value is no whole number, and values: counts is set"),
        ({"matrix": -COUNTS}, "counts", "a value is negative"),
        (
            {"matrix": COUNTS.astype(np.float32)},
            "log",
            "its cells differ in depth: counts, and values: log is set; set",
        ),
        ({}, "normalised", "all its values are whole numbers .* values: normalised is set; set imputation.values: c"),
    ],
)
def test_what_is_not_what_it_is_said_to_be(tmp_path, changes, values, sentence):
    with pytest.raises(InputError, match=sentence):
        read_given(given(tmp_path / "r.h5ad", **changes), values)


def test_values_are_not_guessed_at(tmp_path):
    dense = COUNTS.toarray().astype(np.float32)
    scaled = sparse.csr_matrix(dense / dense.sum(axis=1, keepdims=True) * 10)  # as small as a logarithm is
    assert read_given(given(tmp_path / "r.h5ad", scaled), "normalised").genes.matrix.max() < 10
    even = sparse.csr_matrix(np.tile(np.array([[3, 0, 1] * 10, [0, 2, 2] * 10], dtype=np.float32), (4, 1)))
    assert len(read_given(given(tmp_path / "e.h5ad", even), "normalised").cell_id) == 8  # one depth: it may be true


def test_a_reference_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no such file; correct imputation.reference"):
        read_given(tmp_path / "r.h5ad", "counts")
    (tmp_path / "r.h5ad").write_bytes(b"no")
    with pytest.raises(InputError, match="truncated or not an HDF5 file"):
        read_given(tmp_path / "r.h5ad", "counts")
