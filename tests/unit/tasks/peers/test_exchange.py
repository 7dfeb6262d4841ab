from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pytest
from scipy import sparse

from mistline.tasks.peers.exchange import (
    Cells,
    NotRunError,
    embedding_of,
    imputed_of,
    probability_of,
    read_result,
    write_cells,
    write_view,
)
from tests.unit.models.paired import paired

COUNTS = sparse.csr_matrix(np.array([[1, 0], [0, 2], [3, 0]], dtype=np.int32))


def test_cells_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.h5ad"
    places = np.array([[0.0, 1], [2, 3], [4, 5]])
    write_cells(path, Cells(["a", "b", "c"], ["g", "h"], COUNTS, "counts", places, ["x", "y", "x"]))
    found = anndata.read_h5ad(path)
    assert found.obs_names.tolist() == ["a", "b", "c"]
    assert found.var_names.tolist() == ["g", "h"]
    assert found.X.toarray().tolist() == [[1, 0], [0, 2], [3, 0]]
    assert found.obs["label"].tolist() == ["x", "y", "x"]
    assert found.obsm["spatial"].tolist() == places.tolist()
    assert found.uns["values"] == "counts"


def test_cells_without_labels_have_no_column_for_them(tmp_path):
    write_cells(tmp_path / "a.h5ad", Cells(["a", "b", "c"], ["g", "h"], COUNTS, "log"))
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert found.obs.shape[1] == 0
    assert not found.obsm


def result(**changes):
    return {
        "cell": np.array(["b", "a"]),
        "classes": np.array(["y", "x"]),
        "probability": np.array([[0.25, 0.75], [1.0, 0.0]]),
        "embedding": np.array([[1.0, 2.0], [3.0, 4.0]]),
        **changes,
    }


def test_rows_and_columns_are_put_in_our_order_and_an_unseen_class_is_zero():
    found = probability_of(result(), ["a", "b"], ["w", "x", "y"])
    assert found.tolist() == [[0, 0, 1], [0, 0.75, 0.25]]
    assert found.dtype == np.float32
    assert embedding_of(result(), ["a", "b"]).tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cell": np.array(["b", "c"])}, "of other cells than the 2"),
        ({"cell": np.array(["a", "a"])}, "of other cells"),
        ({"cell": np.array(["a", "b", "c"]), "probability": np.ones((3, 2))}, "of other cells"),
        ({"classes": np.array(["y", "z"])}, "predicts z, which is no class"),
        ({"probability": np.array([[0.5, 0.75], [1, 0]])}, "no distributions"),
        ({"probability": np.array([[np.nan, 0.75], [1, 0]])}, "no distributions"),
        ({"probability": np.array([[-0.5, 1.5], [1, 0]])}, "no distributions"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(changes, sentence):
    with pytest.raises(NotRunError, match=sentence):
        probability_of(result(**changes), ["a", "b"], ["x", "y"])


def test_an_embedding_that_is_not_finite_names_the_cell():
    with pytest.raises(NotRunError, match="cell a is not finite"):
        embedding_of(result(embedding=np.array([[1.0, 2], [np.inf, 4]])), ["a", "b"])


def test_a_result_that_is_missing_damaged_or_pickled_is_refused(tmp_path):
    with pytest.raises(NotRunError, match="left no result"):
        read_result(tmp_path / "no.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(NotRunError, match="cannot be read"):
        read_result(tmp_path / "bad.npz")
    np.savez(tmp_path / "object.npz", cell=np.array([{"a": 1}], dtype=object))
    with pytest.raises(NotRunError, match="cannot be read"):
        read_result(tmp_path / "object.npz")
    with pytest.raises(NotRunError, match="holds no embedding"):
        embedding_of({"cell": np.array(["a"])}, ["a"])


def test_a_view_becomes_two_files_and_the_slides_has_open_genes_alone(tmp_path):
    view, _ = paired(n=4, m=5, n_genes=3, n_wanted=2)
    write_view(tmp_path, view)
    own, other = (anndata.read_h5ad(tmp_path / name) for name in ("spatial.h5ad", "reference.h5ad"))
    assert own.var_names.tolist() == ["G0", "G1", "G2"]
    assert other.var_names.tolist() == ["G0", "G1", "G2", "W0", "W1"]
    assert other.uns["wanted"].tolist() == ["W0", "W1"]
    assert own.obs_names.tolist() == view.cell_id.tolist()
    np.testing.assert_array_equal(own.X, view.spatial)
    np.testing.assert_array_equal(other[:, ["W0", "W1"]].X, view.wanted_reference)
    np.testing.assert_array_equal(own.layers["counts"].toarray(), view.counts.toarray())
    np.testing.assert_array_equal(other[:, ["W0", "W1"]].layers["counts"].toarray(), view.wanted_counts.toarray())
    assert own.obsm["spatial"].tolist() == view.xy_um.tolist()


def test_a_view_without_counts_and_places_has_none(tmp_path):
    view, _ = paired(n=4, m=5, n_genes=3, n_wanted=2)
    bare = replace(view, counts=None, reference_counts=None, wanted_counts=None, xy_um=np.full((4, 2), np.nan))
    write_view(tmp_path, bare)
    for name in ("spatial.h5ad", "reference.h5ad"):
        store = anndata.read_h5ad(tmp_path / name)
        assert not store.layers
        assert not store.obsm


def imputed(**changes):
    rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    return {"cell": np.array(["b", "a"]), "genes": np.array(["h", "g", "i"]), "imputed": rows, **changes}


def test_imputed_genes_are_put_in_our_order():
    assert imputed_of(imputed(), ["a", "b"], ["g", "h"]).tolist() == [[5, 4], [2, 1]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cell": np.array(["b", "c"])}, "of other cells than the 2"),
        ({"genes": np.array(["h", "x", "i"])}, "of other genes than the 2"),
        ({"genes": np.array(["h", "g", "h"])}, "of other genes"),
        ({"genes": np.array(["h", "g"])}, "of other genes"),
        ({"imputed": np.array([[1.0, 2, 3], [4, np.nan, 6]])}, "imputes of gene g is not finite"),
    ],
)
def test_imputed_genes_that_do_not_fit_are_refused(changes, sentence):
    with pytest.raises(NotRunError, match=sentence):
        imputed_of(imputed(**changes), ["a", "b"], ["g", "h"])
