"""Coordinates in micrometres.

Positions in pixels say nothing of their size. What does, in this order: the slide's `um_per_unit`, the scale
factors' `microns_per_pixel`, the array of spots itself (Visium spots lie 100 um apart), and at last the spot
diameter of the scale factors, which Space Ranger gives for a spot of nominally 65 um: the spots are 55 um wide,
and in files of early versions the figure fits 70 um, so it is used only where nothing better is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.spots.table import Places, warning

SPOT_DISTANCE_UM = 100.0
SPOT_DIAMETER_UM = 65.0
_LARGEST_RESIDUE = 0.25  # of the distance of two spots: how far a spot may be from its place on a straight array
_AGREE = 0.05
_LARGEST_FACTOR = 1e6


def locate(
    where: Path,
    xy: NDArray[np.float64],
    grid: NDArray[np.int64] | None,
    factors: Mapping[str, Any],
    um_per_unit: float | None,
) -> tuple[Places, list[dict[str, str]]]:
    """Return the places in micrometres, and what is doubtful about them.

    Args:
        where: the table, for errors.
        xy: [n, 2] in units of the table.
        grid: [n, 2] (array_row, array_col), or None.
        factors: scale factors as Space Ranger writes them; empty for none.
        um_per_unit: as the slide sheet gives it.

    Raises:
        InputError: nothing says how long a unit is, or the array and the coordinates contradict each other.
    """
    problems = []
    array_um = _um_of_array(where, xy, grid, trusted=um_per_unit is None and "microns_per_pixel" not in factors)
    if um_per_unit is not None:
        scale, source = um_per_unit, "um_per_unit of the slide"
    elif "microns_per_pixel" in factors:
        scale, source = _factor(where, factors, "microns_per_pixel"), "microns_per_pixel of the scale factors"
    elif array_um is not None:
        scale, source = array_um, f"array of spots {SPOT_DISTANCE_UM:g} um apart"
    elif "spot_diameter_fullres" in factors:
        scale = SPOT_DIAMETER_UM / _factor(where, factors, "spot_diameter_fullres")
        source = f"spot diameter of {SPOT_DIAMETER_UM:g} um"
        what = "micrometres come from the spot diameter alone, which is known to some 10 % only"
        problems.append(warning(what, "set um_per_unit of the slide where distances matter"))
    else:
        raise InputError(where, "nothing says how many micrometres a unit of its coordinates is", "set um_per_unit")
    if array_um is not None and abs(scale / array_um - 1) > _AGREE:
        what = f"with {scale:.4g} um a unit its spots are {SPOT_DISTANCE_UM * scale / array_um:.0f} um apart"
        problems.append(warning(what, f"Visium spots are {SPOT_DISTANCE_UM:g} um apart: look at um_per_unit"))
    xy_um = xy * scale
    if not np.isfinite(xy_um).all():
        raise InputError(where, f"its coordinates times {scale:g} um are no numbers any more", "correct um_per_unit")
    n_doubled = len(xy_um) - len(np.unique(xy_um, axis=0))
    if n_doubled:
        what = f"{n_doubled} cells have the coordinates of another"
        problems.append(warning(what, "they are kept; correct the coordinates if they are not meant"))
    return Places(xy_um, grid, scale, source), problems


def _factor(where: Path, factors: Mapping[str, Any], name: str) -> float:
    value = factors[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < _LARGEST_FACTOR:
        raise InputError(where, f"the scale factor {name} is {value!r}", "use the file as Space Ranger wrote it")
    return float(value)


def is_hexagonal(grid: NDArray[np.int64]) -> bool:
    """Return whether positions are those of a Visium array: columns count by two within a row."""
    return bool(((grid.sum(axis=1) % 2) == 0).all())


def _um_of_array(where: Path, xy: NDArray[np.float64], grid: NDArray[np.int64] | None, trusted: bool) -> float | None:
    """Return micrometres a unit from the distance of neighbouring spots; None where there is no Visium array."""
    if grid is None or not is_hexagonal(grid) or np.linalg.matrix_rank(grid - grid.mean(axis=0)) < 2:
        return None
    design = np.column_stack([np.ones(len(grid)), grid])
    fitted, *_ = np.linalg.lstsq(design, xy, rcond=None)
    pitch = 2 * float(np.hypot(*fitted[2]))  # two columns are one spot further within a row
    residue = float(np.sqrt(((xy - design @ fitted) ** 2).sum(axis=1).mean()))
    if pitch > 0 and residue <= _LARGEST_RESIDUE * pitch:
        return SPOT_DISTANCE_UM / pitch
    if trusted:
        what = "coordinates do not follow array_row and array_col"
        raise InputError(where, what, "give the positions of one run, or set um_per_unit")
    return None
