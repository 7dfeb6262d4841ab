"""What a method that imputes genes is given, and what it gives back.

`n` cells of one slide, `m` single cells of the reference, `G` genes that both measure and that the method may read,
`W` genes that are wanted: the reference measures them, and no array here holds what the slide measured of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

TARGET_SUM = 1e4  # every cell is scaled to it before the logarithm


@dataclass(frozen=True, slots=True)
class TrainView:
    """One fold of one slide, without its closed genes.

    Args:
        slide: name.
        cell_id: [n].
        genes: [G] ids of the slide, those that the method may fit and read.
        is_val: bool [G], those of them that are only for stopping early.
        spatial: float32 [n, G] log-normalised by the sum over these G genes alone (scRNA atlases and panels differ in
            depth: only shapes compare).
        counts: CSR [n, G] raw counts; None where the slide holds no counts.
        xy_um: float64 [n, 2]; NaN where the slide has no places.
        reference: float32 [m, G] log-normalised by all genes of the reference.
        reference_counts: CSR [m, G]; None where the reference holds no counts.
        wanted: [W] ids.
        wanted_reference: float32 [m, W], as `reference`.
        wanted_counts: CSR [m, W]; None where the reference holds no counts.
    """

    slide: str
    cell_id: NDArray[np.str_]
    genes: tuple[str, ...]
    is_val: NDArray[np.bool_]
    spatial: NDArray[np.float32]
    counts: sparse.csr_matrix | None
    xy_um: NDArray[np.float64]
    reference: NDArray[np.float32]
    reference_counts: sparse.csr_matrix | None
    wanted: tuple[str, ...]
    wanted_reference: NDArray[np.float32]
    wanted_counts: sparse.csr_matrix | None


@dataclass(frozen=True, slots=True)
class Imputed:
    """What a method says of wanted genes.

    Args:
        mean: float32 [n, W], on the scale of `TrainView.spatial`.
        sd: float32 [n, W] how unsure it is; None of a method that does not say.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None = None
