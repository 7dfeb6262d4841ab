"""Reading a single-cell reference as it was given, and saying whether it is what it is said to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from mistline.config.slides import Values
from mistline.core.errors import InputError
from mistline.core.hdf5 import write_h5ad
from mistline.scrna.genes import is_constant
from mistline.scrna.match import prefixes
from mistline.spots.h5ad import read_cells
from mistline.spots.table import Genes
from mistline.xenium.panel import kind_of_ids


@dataclass(frozen=True, slots=True)
class Cells:
    """Single cells as they are kept.

    Args:
        cell_id: [m] sorted.
        genes: what was measured of them.
        n_empty: cells left out because they have no value at all.
    """

    cell_id: tuple[str, ...]
    genes: Genes
    n_empty: int


def read_given(path: Path, values: Values) -> Cells:
    """Read an h5ad of single cells, in an order of its own.

    Args:
        path: the file.
        values: what its X holds.

    Raises:
        InputError: it is not there, is no h5ad, holds no cell with a value, or its values are not what they are said
            to be.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "correct imputation.reference: an h5ad of single cells")
    cell_ids, genes = read_cells(path, values)
    if values != "counts":
        _refuse_counts(path, genes.matrix, values)
    names = np.asarray(cell_ids, dtype=np.str_)
    filled = np.flatnonzero(np.diff(genes.matrix.indptr))
    if not len(filled):
        raise InputError(path, "it holds no cell with a value", "give an h5ad whose X is filled")
    rows = filled[np.argsort(names[filled], kind="stable")]
    kept = Genes(genes.matrix[rows], genes.ids, genes.symbols, genes.other_features)
    return Cells(tuple(names[rows].tolist()), kept, len(names) - len(rows))


def _refuse_counts(path: Path, matrix: sparse.csr_matrix, values: Values) -> None:
    """Refuse whole numbers where normalised or log values are announced: cells of one depth add up to one sum."""
    if not np.array_equal(matrix.data, np.trunc(matrix.data)):
        return
    sums = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    if matrix.nnz and np.ptp(sums[sums > 0]) > 0:
        what = f"all its values are whole numbers and its cells differ in depth: counts, and values: {values} is set"
        raise InputError(path, what, "set imputation.values: counts")


def write_reference(path: Path, cells: Cells, values: Values) -> None:
    """Write single cells as a slide's counts.h5ad is.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    data = anndata.AnnData(
        X=cells.genes.matrix,
        obs=pd.DataFrame(index=pd.Index(cells.cell_id, name="cell_id", dtype=object)),
        var=pd.DataFrame(
            {"symbol": pd.Series(cells.genes.symbols, dtype=object).to_numpy()},
            index=pd.Index(cells.genes.ids, name="gene_id", dtype=object),
        ),
        uns={"values": values},
    )
    write_h5ad(path, data, compression="gzip", compression_opts=1)


def describe(given: Path, cells: Cells, values: Values) -> Mapping[str, Any]:
    """Return what reference.json says.

    Args:
        given: the file as it was given.
        cells: what was read from it.
        values: what they hold.
    """
    depth = np.asarray(cells.genes.matrix.sum(axis=1, dtype=np.float64)).ravel()
    quarters = np.quantile(depth, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {
        "file": given.name,
        "values": values,
        "n_cells": len(cells.cell_id),
        "n_empty_cells": cells.n_empty,
        "n_genes": len(cells.genes.ids),
        "n_constant_genes": int(is_constant(cells.genes.matrix).sum()),
        "gene_ids": kind_of_ids(cells.genes.ids),
        "ensembl_prefixes": prefixes(cells.genes.ids),
        "other_features": dict(cells.genes.other_features),
        "depth": dict(zip(("least", "lower_quarter", "median", "upper_quarter", "most"), quarters, strict=True)),
    }
