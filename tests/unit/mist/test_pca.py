from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from mistline.core.errors import InputError
from mistline.mist.pca import fit_pca, ordered_map
from tests.unit.mist.traced import peak_bytes


def rows(n: int = 1500, g: int = 60, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    kinds = rng.gamma(1.0, 1.0, (12, g)) * (rng.random((12, g)) < 0.4)
    return sparse.csr_matrix(np.log1p(rng.poisson(kinds[rng.integers(0, 12, n)])).astype(np.float32))


def cut(matrix: sparse.csr_matrix, size: int) -> list[sparse.csr_matrix]:
    return [matrix[start : start + size] for start in range(0, matrix.shape[0], size)]


def test_it_is_the_pca_of_the_textbook():
    matrix = rows()
    found = fit_pca(cut(matrix, 400), 10)
    expected = PCA(10, svd_solver="full").fit(matrix.toarray().astype(np.float64))
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-6)
    overlap = np.abs((found.components * expected.components_).sum(axis=1))
    np.testing.assert_allclose(overlap[:8], 1, atol=1e-3)
    total = matrix.toarray().astype(np.float64).var(axis=0, ddof=1).sum()
    assert found.total_variance == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_bits_do_not_depend_on_the_threads(threads):
    blocks = cut(rows(), 100)
    one, many = fit_pca(blocks, 12, threads=1), fit_pca(blocks, 12, threads=threads)
    assert one.components.tobytes() == many.components.tobytes()
    assert one.explained_variance.tobytes() == many.explained_variance.tobytes()


def test_components_are_orthonormal_and_their_sign_is_fixed():
    found = fit_pca([rows()], 10)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(10), atol=1e-8)
    largest = np.abs(found.components).argmax(axis=1)
    assert (found.components[np.arange(10), largest] > 0).all()


def test_no_more_components_than_the_rows_hold():
    assert fit_pca([rows(n=5)], 50).components.shape == (4, 60)
    assert fit_pca([rows(g=8)], 50).components.shape == (8, 8)


def test_one_row_is_refused():
    with pytest.raises(InputError, match="1 rows are too few"):
        fit_pca([rows(n=1)], 2)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="0 rows are too few"):
        fit_pca([], 2)


def test_ordered_map_keeps_the_order_and_few_items_in_flight():
    started, lock, most = [], threading.Lock(), [0]

    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item

    def items():
        for item in range(20):
            with lock:
                started.append(item)
                most[0] = max(most[0], len(started) - len(done))
            yield item

    done: list[int] = []
    for item in ordered_map(work, items(), 3):
        done.append(item)
    assert done == list(range(20))
    assert most[0] <= 5


def test_memory_does_not_grow_with_the_rows():
    block = rows()
    few, many = (peak_bytes(lambda n=n: fit_pca((block.copy() for _ in range(n)), 5)) for n in (4, 24))
    assert many < 1.1 * few
