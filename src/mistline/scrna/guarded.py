"""A slide's matrix whose closed genes cannot be read.

Genes on which methods are tested are closed while these are fitted: a `GuardedMatrix` gives columns of open genes
only, and everything else that would show an array raises. What is scored is read once, after all predictions are on
disk, by `reveal`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError

_REMEDY = "only `reveal` reads genes that are tested, and only to score them"


class GuardedMatrix:
    """Values [n, T] of a slide, of which closed genes raise when they are read.

    Args:
        matrix: [n, T].
        genes: [T] ids.
        closed: ids of the genes that may not be read.

    Raises:
        InputError: a closed gene is not among `genes`, or the matrix has another width.
    """

    __slots__ = ("__matrix", "_closed", "_place")

    def __init__(self, matrix: sparse.csr_matrix, genes: Sequence[str], closed: Collection[str] = ()) -> None:
        place = {gene: number for number, gene in enumerate(genes)}
        if matrix.shape[1] != len(place):
            raise InputError("counts", f"{matrix.shape[1]} columns and {len(place)} genes", "read the slide again")
        unknown = sorted(set(closed) - set(place))
        if unknown:
            raise InputError("closed genes", f"{unknown[0]} is not measured", "divide the genes of this slide again")
        self.__matrix, self._place, self._closed = sparse.csr_matrix(matrix), place, frozenset(closed)

    def __len__(self) -> int:
        """Return the number of cells."""
        return int(self.__matrix.shape[0])

    @property
    def genes(self) -> tuple[str, ...]:
        """Return the names of all genes; names are no values."""
        return tuple(self._place)

    @property
    def open_genes(self) -> tuple[str, ...]:
        """Return the names of the genes that may be read."""
        return tuple(gene for gene in self._place if gene not in self._closed)

    def close(self, genes: Collection[str]) -> GuardedMatrix:
        """Return the same matrix with these genes closed as well."""
        return GuardedMatrix(self.__matrix, self.genes, self._closed | set(genes))

    def take(self, genes: Sequence[str]) -> sparse.csr_matrix:
        """Return CSR [n, len(genes)] of open genes.

        Raises:
            InputError: one is closed, or not measured.
        """
        shut = [gene for gene in genes if gene in self._closed]
        if shut:
            raise InputError("guarded matrix", f"{shut[0]} is tested and was asked for before it is scored", _REMEDY)
        return self._columns(genes)

    def reveal(self, genes: Sequence[str]) -> sparse.csr_matrix:
        """Return CSR [n, len(genes)], closed or not, for scoring."""
        return self._columns(genes)

    def with_canary(self) -> GuardedMatrix:
        """Return the matrix with NaN in every closed gene: whoever reads one shows it in what comes out."""
        closed = [gene in self._closed for gene in self._place]
        values = self.__matrix.astype(np.float64).tocsc()
        full = sparse.csc_matrix(np.full((len(self), 1), np.nan))
        columns = [full if is_closed else values[:, [place]] for place, is_closed in enumerate(closed)]
        return GuardedMatrix(sparse.hstack(columns, format="csr"), self.genes, self._closed)

    def _columns(self, genes: Sequence[str]) -> sparse.csr_matrix:
        missing = [gene for gene in genes if gene not in self._place]
        if missing:
            raise InputError("guarded matrix", f"{missing[0]} is not measured", "ask for genes of this slide")
        return sparse.csr_matrix(self.__matrix[:, [self._place[gene] for gene in genes]])

    def _refuse(self, *given: Any, **named: Any) -> NoReturn:
        raise InputError("guarded matrix", "it was read as a whole, and it holds tested genes", _REMEDY)

    __array__ = __getitem__ = __iter__ = __matmul__ = __add__ = __mul__ = __reduce__ = __copy__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what a matrix offers (`X`, `toarray`, `data`, ...)."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


def log_normalised(
    values: sparse.csr_matrix, kind: str, target_sum: float, total: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Return float32 [n, G]: log(1 + x) of counts scaled by their sum; a row without any stays zero.

    Args:
        values: [n, G].
        kind: what they are: counts, normalised (by depth: only the logarithm is taken) or log (left as they are).
        target_sum: which each row of counts is scaled to.
        total: [n] what a row's counts add up to; absent: the sum of those given.
    """
    dense = np.asarray(values.toarray(), dtype=np.float64)
    if kind == "counts":
        sums = dense.sum(axis=1) if total is None else np.asarray(total, dtype=np.float64)
        dense *= np.divide(target_sum, sums, out=np.zeros_like(sums), where=sums > 0)[:, None]
    return (dense if kind == "log" else np.log1p(dense)).astype(np.float32)
