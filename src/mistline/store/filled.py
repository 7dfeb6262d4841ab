"""Cells of holes as a model filled them, on disk: one parquet file a run and protocol, as `store.told` has it.

A row a hidden cell: where it is hidden, and its own meta-cell, which the model never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mistline.store.told import Kind, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled(Told):
    """Hidden cells.

    Args:
        hole: int16 [n] number of the hole on its slide.
        metacell: int32 [n] its own; -1 where it has none.
    """

    hole: NDArray[np.int16]
    metacell: NDArray[np.int32]


def write_filled(path: Path, filled: Filled) -> None:
    """Write filled cells; see `told.Kind.write`."""
    _FILLED.write(path, filled)


def read_filled(path: Path) -> Filled:
    """Read filled cells; see `told.Kind.read`."""
    return _FILLED.read(path)


def _wrong(filled: Filled) -> str:
    most, k = int(filled.metacell.max()), len(filled.expression)
    return f"a cell's own meta-cell is {most}, and there are {k}" if most >= k else ""


_COLUMNS = {"hole": pa.int16(), "metacell": pa.int32()}
_FILLED = Kind(Filled, "filled cells", "generate-cells", _COLUMNS, _wrong)
