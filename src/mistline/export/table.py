"""One table a slide: counts, everything known of each cell, embeddings and their clusters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError

INSTANCE = "instance_id"  # the label of the cell in the label images
REGION = "region"
CELLS = "cells"  # name of the label image that the table describes


def build_table(
    cells: pd.DataFrame, counts: Path, embeddings: Mapping[str, NDArray[np.float32]], xy_um: NDArray[np.float64]
) -> anndata.AnnData:
    """Put a slide's table together.

    Args:
        cells: [n] what is known of each cell, `cell_id` among it; columns of types are categorical.
        counts: counts.h5ad of these cells.
        embeddings: name -> float32 [n, D].
        xy_um: [n, 2] centroids.

    Raises:
        InputError: the counts are those of other cells.
    """
    try:
        table = anndata.read_h5ad(counts)
    except FileNotFoundError:
        raise InputError(counts, "no such file", "run read_cells for this slide") from None
    except (OSError, KeyError, ValueError) as error:
        raise InputError(counts, f"not a readable h5ad ({error})", "run read_cells for this slide again") from error
    require_same_cells(counts, table.obs_names.to_numpy(), cells)
    obs = cells.set_axis(pd.Index(cells["cell_id"].to_numpy(dtype=object)), axis=0)
    obs[INSTANCE] = np.arange(1, len(obs) + 1, dtype=np.int64)
    obs[REGION] = pd.Categorical([CELLS] * len(obs))
    table.obs = obs
    table.obsm["spatial"] = np.ascontiguousarray(xy_um, dtype=np.float64)
    for name, rows in embeddings.items():
        table.obsm[f"X_{name}"] = rows
    return table


def require_same_cells(path: Path, ids: NDArray[np.generic], cells: pd.DataFrame) -> None:
    """Check that a file lists the cells of the slide, in their order.

    Raises:
        InputError: it does not.
    """
    if not np.array_equal(ids.astype(str), cells["cell_id"].to_numpy(dtype=str)):
        raise InputError(path, "it lists other cells than cells.parquet", "run its stage for this slide again")


def as_groups(codes: NDArray[np.integer]) -> pd.Categorical:
    """Return whole numbers as categories, in numerical order."""
    found = np.unique(codes)
    return pd.Categorical.from_codes(np.searchsorted(found, codes), [str(code) for code in found])


def by_size(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number clusters from 1 on, the largest first; among equals, the one that comes first in the table."""
    found, first, member, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(found), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(1, len(found) + 1)
    return rank[member]
