"""What a slide given as a table is, whatever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.xenium.ids import Ids


@dataclass(frozen=True)
class Genes:
    """What was measured.

    Args:
        matrix: [n, G] CSR, int32 for counts, else float32; columns in the order of `ids`.
        ids: [G] sorted, Ensembl where the table has them.
        symbols: [G].
        other_features: features of the table that are no genes, by type; the matrix does not hold them.
    """

    matrix: sparse.csr_matrix
    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    other_features: Mapping[str, int]


@dataclass(frozen=True)
class Places:
    """Where the cells or spots are.

    Args:
        xy_um: [n, 2] micrometres.
        grid: [n, 2] (array_row, array_col) of an array of spots; None where cells lie anywhere.
        um_per_unit: micrometres of one unit of the coordinates as given.
        source: where `um_per_unit` is from.
    """

    xy_um: NDArray[np.float64]
    grid: NDArray[np.int64] | None
    um_per_unit: float
    source: str


@dataclass(frozen=True)
class Table:
    """A slide given as a table, in the table's own order.

    Args:
        where: its path, for errors.
        kind: what it was read from.
        cell_ids: [n] unique.
        genes: what was measured.
        has_row: [n] whether the matrix has a row of this cell; without one its row here is empty.
        in_tissue: [n] False for spots beside the tissue.
        places: None where the table tells no coordinates.
        labels: [n] rows, text columns, None where unknown.
        left_out: column -> why it is no label.
        problems: what a reader should know: level, what, remedy.
        files: relative path -> bytes.
    """

    where: str
    kind: Literal["h5ad", "visium"]
    cell_ids: Ids
    genes: Genes
    has_row: NDArray[np.bool_]
    in_tissue: NDArray[np.bool_]
    places: Places | None
    labels: pd.DataFrame
    left_out: Mapping[str, str]
    problems: tuple[dict[str, str], ...]
    files: Mapping[str, int]


def warning(what: str, remedy: str) -> dict[str, str]:
    """Return an entry of `problems`."""
    return {"level": "warning", "what": what, "remedy": remedy}
