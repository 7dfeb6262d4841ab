"""The meta-cells of a dataset, as models read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The meta-cells that `contract.Batch.metacell` counts.

    Args:
        genes: [T] ids.
        expression: float32 [K, T] mean log-normalised expression of each.
        levels: int64 [K, n] group of each at n coarser levels, finest first.
    """

    genes: tuple[str, ...]
    expression: NDArray[np.float32]
    levels: NDArray[np.int64]
