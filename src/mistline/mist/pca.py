"""Principal components of sparse rows from their streamed Gram matrix: any number of rows, fixed memory.

Blocks are worked on by several threads, each with a single-threaded BLAS, and summed in their order, so the
result has the same bits whatever the number of threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import ThreadpoolController

from mistline.core.errors import InputError

_BLOCK_ROWS = 4096
_BLOCK_BYTES = 32 * 2**20  # at most, of one densified block of float32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pca:
    """A fitted basis.

    Attributes:
        mean: [G] of the rows.
        components: [p, G] orthonormal, the largest loading of each positive.
        explained_variance: [p], falling.
        total_variance: of all G columns.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    total_variance: float

    def scores(self, rows: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return the scores [n, p] of rows [n, G]."""
        basis = np.ascontiguousarray(self.components.T, dtype=np.float32)
        scores: NDArray[np.float32] = (rows @ basis - self.mean @ self.components.T).astype(np.float32)
        return scores


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `work(item)` in the order of `items`, at most `threads` + 1 of them in memory, BLAS on one thread each."""
    if threads == 1:
        for item in items:
            with _one_blas_thread():
                result = work(item)
            yield result
        return
    with _one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # finding them costs more than a small block


def _one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread, whose sums have the same bits on every machine size."""
    limit: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limit


def fit_pca(blocks: Iterable[sparse.csr_matrix], n_components: int, threads: int = 1) -> Pca:
    """Find the leading principal components, centred and unscaled.

    Args:
        blocks: float32 CSR [n_i, G]; their cutting into blocks is part of the result's last bits.
        n_components: p; fewer are returned when the rows or columns do not have so many.
        threads: blocks worked on at once.

    Raises:
        InputError: there are fewer than two rows.
    """
    n = 0
    total: NDArray[np.float64] | None = None
    gram: NDArray[np.float64] | None = None
    for rows, column_sum, product in ordered_map(_Moments(), _pieces(blocks), threads):
        n += rows
        total = column_sum if total is None else total + column_sum
        gram = product.astype(np.float64) if gram is None else np.add(gram, product, out=gram)
    if total is None or gram is None or n < 2:
        raise InputError("PCA", f"{n} rows are too few", "give more training cells")
    mean = total / n
    covariance = (gram - n * np.outer(mean, mean)) / (n - 1)
    p = min(n_components, n - 1, len(mean))
    with _one_blas_thread():
        first = len(mean) - p
        values, vectors = scipy.linalg.eigh(covariance, subset_by_index=(first, len(mean) - 1))
    components = _sign_fixed(vectors.T[::-1])
    return Pca(mean, components, np.maximum(values[::-1], 0.0), float(np.trace(covariance)))


def _pieces(blocks: Iterable[sparse.csr_matrix]) -> Iterator[sparse.csr_matrix]:
    """Cut blocks so that one densified piece stays small; depends on the number of columns alone."""
    for block in blocks:
        size = _piece_rows(block.shape[1])
        for start in range(0, block.shape[0], size):
            yield block[start : start + size]


def _piece_rows(n_columns: int) -> int:
    return max(256, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * max(1, n_columns))))


class _Moments:
    """First and second moments of pieces, densified into a buffer that each thread reuses: fresh pages are dear."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, piece: sparse.csr_matrix) -> tuple[int, NDArray[np.float64], NDArray[np.float32]]:
        """Return the number of rows, their sum [G] and X^T X [G, G]."""
        n, n_columns = piece.shape
        if not hasattr(self._local, "dense"):
            self._local.dense = np.empty((_piece_rows(n_columns), n_columns), dtype=np.float32)
        dense = piece.astype(np.float32, copy=False).toarray(out=self._local.dense[:n])
        column_sum = np.asarray(piece.sum(axis=0, dtype=np.float64)).ravel()
        return n, column_sum, dense.T @ dense


def _sign_fixed(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flip each component so that its largest loading in magnitude is positive."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.where(components[np.arange(len(components)), largest] < 0, -1.0, 1.0)
    return np.ascontiguousarray(components * signs[:, None])
