"""What single cells tell of each gene. Nothing here looks at a slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def expressed(matrix: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (share of the cells with a value above zero, mean) of each gene [G], of values [m, G]."""
    share = np.asarray((matrix > 0).sum(axis=0), dtype=np.float64).ravel() / matrix.shape[0]
    return share, np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel()


def is_constant(matrix: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Return bool [G], the genes that have one value in all cells, of values [m, G]."""
    low, high = (np.asarray(found.toarray()).ravel() for found in (matrix.min(axis=0), matrix.max(axis=0)))
    return np.asarray(low == high)


def variances(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """Return the variance of each gene [G] over all cells, of values [m, G]."""
    values = sparse.csr_matrix(matrix, dtype=np.float64)
    mean = np.asarray(values.mean(axis=0)).ravel()
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    return np.maximum(squares - mean**2, 0.0)
