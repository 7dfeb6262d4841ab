from __future__ import annotations

import anndata
import numpy as np
import pytest
from scipy import sparse

from mistline.tasks.peers.exchange import (
    Cells,
    NotRunError,
    embedding_of,
    probability_of,
    read_result,
    write_cells,
)

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
