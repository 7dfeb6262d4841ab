"""Rings of tissue as a model generated them around circles that were changed, on disk: one parquet file a run.

A row, as `store.told` has it, a slide, circle, variant, width and cell of the ring. The cells of a ring are the same,
in the same order, in each of its variants.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mistline.store.told import Kind, Told

CONTROL, PERTURBED, RANDOM_GENES, ELSEWHERE = "control", "perturbed", "random_genes", "elsewhere"
VARIANTS = (CONTROL, PERTURBED, RANDOM_GENES, ELSEWHERE)
"""The circle as measured; changed as asked; as many other genes changed; the same change far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbed(Told):
    """Cells of rings.

    Args:
        roi: int16 [n] number of the circle on its slide.
        variant: [n] of `VARIANTS`.
        sigma: float32 [n] width of the change in radii; 0 for the control.
        distance_um: float32 [n] from the circle's centre.
        symbols: [T].
    """

    roi: NDArray[np.int16]
    variant: NDArray[np.str_]
    sigma: NDArray[np.float32]
    distance_um: NDArray[np.float32]
    symbols: tuple[str, ...]


def write_perturbed(path: Path, perturbed: Perturbed) -> None:
    """Write generated rings; see `told.Kind.write`."""
    _PERTURBED.write(path, perturbed)


def read_perturbed(path: Path) -> Perturbed:
    """Read generated rings; see `told.Kind.read`."""
    return _PERTURBED.read(path)


def _wrong(own: Perturbed) -> str:
    is_known = np.isin(own.variant, VARIANTS).all()
    return "" if is_known else f"a cell was generated for a variant that is none of {', '.join(VARIANTS)}"


_COLUMNS = {"roi": pa.int16(), "variant": pa.string(), "sigma": pa.float32(), "distance_um": pa.float32()}
_PERTURBED = Kind(Perturbed, "perturbed cells", "perturb", _COLUMNS, _wrong, ("symbols",))
