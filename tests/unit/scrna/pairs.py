"""A small slide and its single cells on disk, as the stages before the division of genes leave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

GENES = tuple(f"ENSG{number:011d}" for number in range(30))  # the last six are measured in single cells alone
N_SHARED = 24
N_TYPES = 3


def counts_of(n: int, seed: int, n_genes: int = len(GENES)) -> sparse.csr_matrix:
    """Return int32 [n, n_genes] counts of types that each have genes of their own, of uneven levels."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, N_TYPES, n)
    level = np.linspace(0.3, 3, n_genes)
    rate = level * np.where(np.arange(n_genes) % N_TYPES == kind[:, None], 4, 0.4)
    return sparse.csr_matrix(rng.poisson(rate).astype(np.int32))


def write_counts(path: Path, counts: sparse.csr_matrix, genes: Sequence[str], prefix: str, values: str) -> Path:
    """Write a counts.h5ad; symbols are S and the number in the id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    symbols = [f"S{int(gene[-3:])}" for gene in genes]
    anndata.AnnData(
        counts,
        obs=pd.DataFrame(index=[f"{prefix}{number:04d}" for number in range(counts.shape[0])]),
        var=pd.DataFrame({"symbol": symbols}, index=list(genes)),
        uns={"values": values},
    ).write_h5ad(path)
    return path


def write_slide(folder: Path, n: int = 40, seed: int = 0, *, skip: int = 0, values: str = "counts") -> Path:
    """Write cells.parquet and counts.h5ad; return the folder.

    Args:
        folder: named as the slide.
        n: cells.
        seed: of them.
        skip: genes at the beginning of the shared ones that it does not measure.
        values: what is said of them.
    """
    write_counts(
        folder / "counts.h5ad", counts_of(n, seed)[:, skip:N_SHARED], GENES[skip:N_SHARED], folder.name, values
    )
    xy = np.random.default_rng(seed).uniform(0, 500, (n, 2))
    ids = [f"{folder.name}{number:04d}" for number in range(n)]
    pd.DataFrame({"cell_id": ids, "x_um": xy[:, 0], "y_um": xy[:, 1]}).to_parquet(folder / "cells.parquet")
    return folder


def write_single(path: Path, n: int = 90, seed: int = 9, values: str = "counts") -> Path:
    """Write the single cells of all genes."""
    return write_counts(path, counts_of(n, seed), GENES, "r", values)
