"""Closed genes cannot be read, whichever way somebody tries."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.scrna.guarded import GuardedMatrix, log_normalised

COUNTS = sparse.csr_matrix(np.array([[1, 0, 2, 5], [0, 0, 0, 0], [3, 1, 0, 2]], dtype=np.int32))
GENES = ("a", "b", "c", "d")
OPEN = GuardedMatrix(COUNTS, GENES)
CLOSED = OPEN.close(["c"])


def test_open_genes_are_given_in_the_order_asked_for():
    assert CLOSED.open_genes == ("a", "b", "d")
    assert CLOSED.take(["d", "a"]).toarray().tolist() == [[5, 1], [0, 0], [2, 3]]
    assert CLOSED.take(["d"]).dtype == np.int32
    assert CLOSED.reveal(["c"]).toarray().ravel().tolist() == [2, 0, 0]
    assert CLOSED.close(["a"]).open_genes == ("b", "d")
    assert (len(CLOSED), OPEN.open_genes) == (3, GENES)


@pytest.mark.parametrize(
    "read",
    [
        lambda guarded: guarded.take(["a", "c"]),
        np.asarray,
        lambda guarded: guarded[:, 2],
        list,
        lambda guarded: guarded.X,
        lambda guarded: guarded.toarray(),
        lambda guarded: guarded @ np.eye(4),
        lambda guarded: guarded + 0,
        lambda guarded: guarded * 1,
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
    ],
)
def test_nothing_else_shows_a_value(read):
    with pytest.raises(InputError, match=r"guarded matrix: .*only `reveal` reads genes that are tested"):
        read(CLOSED)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="x is not measured; divide the genes"):
        OPEN.close(["x"])
    with pytest.raises(InputError, match="4 columns and 3 genes"):
        GuardedMatrix(COUNTS, GENES[:3])
    with pytest.raises(InputError, match="4 columns and 3 genes"):
        GuardedMatrix(COUNTS, ("a", "b", "c", "a"))
    with pytest.raises(InputError, match="x is not measured; ask for genes"):
        OPEN.take(["x"])


def test_a_canary_sits_in_every_closed_value_and_nowhere_else():
    found = CLOSED.with_canary()
    assert np.isnan(found.reveal(["c"]).toarray()).all()
    assert found.take(["a", "b", "d"]).toarray().tolist() == CLOSED.take(["a", "b", "d"]).toarray().tolist()
    assert np.array_equal(OPEN.with_canary().reveal(GENES).toarray(), COUNTS.toarray())


def test_values_are_brought_to_one_scale():
    found = log_normalised(COUNTS, "counts", 10)
    assert found[0] == pytest.approx(np.log1p([10 / 8, 0, 20 / 8, 50 / 8]))
    assert not found[1].any()
    part = log_normalised(COUNTS[:, :1], "counts", 10, np.array([8, 0, 6.0]))
    assert part.ravel() == pytest.approx(np.log1p([10 / 8, 0, 5]))
    assert log_normalised(COUNTS, "normalised", 10)[0, 2] == pytest.approx(np.log(3))
    assert log_normalised(COUNTS, "log", 10)[0, 2] == 2
