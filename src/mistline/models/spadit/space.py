"""What is diffused: a gene over the cells of a slide, as few numbers, however many cells there are.

`n` cells, `G` training genes, `A` genes that may be read (training and validation), `p` components, `k` some genes.

Genes are standardised over cells. `U = Z axes` [n, p] holds the components of the training genes `Z` [n, G] after the
mean over genes was taken off each cell; its columns have mean square 1, and a gene's variable is `a = U^T z / n`. All
of it follows from the products of genes with genes, so that the cells are read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mistline.core.errors import InputError

_ROWS = 8192  # cells that are worked on at once
_LEAST_SHARE = 1e-6  # of the first component's variance, below which a component is rounding

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """The training genes of a slide, standardised as they are read, and their products.

    Args:
        values: float32 [n, A].
        is_val: bool [A].
        mean: [A].
        scale: [A] standard deviations; 1 for a gene that does not vary.
        products: [G, A] means over cells of training genes times all genes.
    """

    values: NDArray[np.float32]
    is_val: NDArray[np.bool_]
    mean: Floats
    scale: Floats
    products: Floats

    @classmethod
    def of(cls, values: NDArray[np.float32], is_val: NDArray[np.bool_]) -> Measured:
        """Return the genes of a slide.

        Args:
            values: [n, A].
            is_val: bool [A].
        """
        n = len(values)
        with threadpool_limits(limits=1):  # the same for any number of threads
            mean = values.mean(axis=0, dtype=np.float64)
            products = np.zeros((values.shape[1],) * 2)
            for start in range(0, n, _ROWS):
                own = values[start : start + _ROWS] - mean
                products += own.T @ own
            products /= n
            scale = np.sqrt(np.diag(products))
            scale = np.where(scale > 0, scale, 1.0)
            products /= scale[:, None] * scale
        return cls(values, is_val, mean, scale, products[~is_val])

    @property
    def among(self) -> Floats:
        """Return [G, G], the products of training genes."""
        return self.products[:, ~self.is_val]

    def chunks(self, n_rows: int | None = None) -> Iterator[tuple[slice, Floats]]:
        """Yield (rows, standardised training genes [rows, G]) of all cells, so many at once."""
        train, step = ~self.is_val, n_rows or _ROWS
        for start in range(0, len(self.values), step):
            rows = slice(start, min(start + step, len(self.values)))
            yield rows, (self.values[rows][:, train] - self.mean[train]) / self.scale[train]

    def standardised(self) -> Floats:
        """Return [n, A]."""
        return (self.values - self.mean) / self.scale


@dataclass(frozen=True, slots=True)
class Space:
    """The way from genes to what is diffused, and back.

    Args:
        kind: pca or raw.
        axes: [G, p]; empty for raw, whose variable is the gene at every cell.
        width: p; n for raw.
    """

    kind: Literal["pca", "raw"]
    axes: Floats
    width: int

    @classmethod
    def of(cls, measured: Measured, kind: Literal["pca", "raw"], n_components: int) -> Space:
        """Return the components of training genes.

        Args:
            measured: the genes.
            kind: pca or raw.
            n_components: at most so many.

        Raises:
            InputError: no training gene varies on its own.
        """
        n_genes = len(measured.products)
        if kind == "raw":
            return cls(kind, np.empty((n_genes, 0)), len(measured.values))
        with threadpool_limits(limits=1):
            centring = np.eye(n_genes) - 1 / n_genes
            variances, axes = np.linalg.eigh(centring @ measured.among @ centring)
        variances, axes = variances[::-1], axes[:, ::-1]
        kept = variances > _LEAST_SHARE * max(variances[0], 1e-12)
        kept &= np.arange(n_genes) < min(n_components, n_genes - 1)
        if not kept.any():
            raise InputError(
                "training genes", "none varies over the cells on its own", "use a slide that measures more"
            )
        variances, axes = variances[kept], axes[:, kept]
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
        return cls(kind, axes / np.sqrt(variances), axes.shape[1])

    def variables(self, measured: Measured, values: NDArray[np.floating]) -> Floats:
        """Return [k, p] of standardised values [n, k]."""
        if self.kind == "raw":
            return np.asarray(values.T, dtype=np.float64)
        found = np.zeros((self.width, values.shape[1]))
        with threadpool_limits(limits=1):
            for rows, own in measured.chunks():
                found += (own @ self.axes).T @ values[rows]
        return np.asarray(found.T / len(values))

    def at_cells(self, rows: slice, values: Floats, variable: Floats) -> Floats:
        """Return [rows, ...] of variables [..., p].

        Args:
            rows: of the slide.
            values: [rows, G] standardised training genes there.
            variable: [..., p].
        """
        if self.kind == "raw":
            return np.moveaxis(variable[..., rows], -1, 0)
        return np.tensordot(values @ self.axes, variable, axes=(1, -1))
