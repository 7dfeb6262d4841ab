"""Squares of a slide whose cells are hidden, drawn by hashes of the cells' ids: the same for every model and machine.

A square has its centre on a test cell, lies within the box that the slide's cells span, and holds test cells only:
what any model was trained on is never inside. The squares of a slide do not touch, and together they hide at most
half of its cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mistline.config.holes import Holes
from mistline.core.errors import InputError
from mistline.core.seeds import ranked

_TRIED = 5000  # centres, in the order of the draw
_SMALLER = np.arange(0.95, 0.0, -0.05)  # sides that are tried for the message, as shares of the one that does not fit
_HIDDEN = 0.5  # share of a slide's cells, at most

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hole:
    """One square.

    Args:
        number: of the slide's squares, in the order of the draw.
        centre_um: x and y.
        rows: [n] the cells inside, rising.
    """

    number: int
    centre_um: tuple[float, float]
    rows: Rows


def place_holes(
    ids: Sequence[str],
    xy_um: NDArray[np.floating],
    tested: NDArray[np.bool_],
    side_um: float,
    rule: Holes,
    slide: str,
) -> list[Hole]:
    """Place the squares of one slide: `rule.n` of them, or as many as fit.

    Args:
        ids: [n] of all cells of the slide.
        xy_um: [n, 2] their places; they are read as float32, the precision in which every file has them.
        tested: [n] whether a cell is in the test split.
        side_um: of the squares.
        rule: how many, and with how many cells.
        slide: its name.

    Raises:
        InputError: a cell has no place, or not one square fits; names the largest side that does.
    """
    xy = np.asarray(xy_um, dtype=np.float32).astype(np.float64)
    if not np.isfinite(xy).all():
        raise InputError(f"slide {slide}", "a cell has no coordinates", "leave the slide out with only:")
    own = np.flatnonzero(tested)
    order = own[ranked([ids[i] for i in own], 0, "holes", slide)] if len(own) else own
    left = int(_HIDDEN * len(xy))
    found: list[Hole] = []
    for centre in xy[_fitting(xy, tested, order, side_um, rule)]:
        apart = all(np.abs(centre - hole.centre_um).max() > side_um for hole in found)
        if not apart or len(found) == rule.n:
            continue
        rows = np.flatnonzero((np.abs(xy - centre) <= side_um / 2).all(axis=1))
        if len(rows) <= left:
            left -= len(rows)
            found.append(Hole(len(found), (float(centre[0]), float(centre[1])), rows))
    if not found:
        raise _none(xy, tested, order, side_um, rule, slide)
    return found


def _fitting(xy: NDArray[np.float64], tested: NDArray[np.bool_], order: Rows, side_um: float, rule: Holes) -> Rows:
    """Return the centres among the first of a draw whose square fits, in the order of the draw."""
    if not len(order):
        return order
    half = side_um / 2
    inside = ((xy[order] - half >= xy.min(axis=0)) & (xy[order] + half <= xy.max(axis=0))).all(axis=1)
    order = order[inside][:_TRIED]
    if not len(order):
        return order
    all_cells, own = (
        np.asarray(cKDTree(points).query_ball_point(xy[order], half, p=np.inf, return_length=True))
        for points in (xy, xy[tested])
    )
    return order[(all_cells == own) & (own >= rule.least_cells) & (own <= _HIDDEN * len(xy))]


def _none(
    xy: NDArray[np.float64], tested: NDArray[np.bool_], order: Rows, side_um: float, rule: Holes, slide: str
) -> InputError:
    fits = next((share for share in _SMALLER if len(_fitting(xy, tested, order, side_um * share, rule))), None)
    largest = "no smaller one does" if fits is None else f"the largest that does has {side_um * fits:.3g} um"
    what = (
        f"no square of {side_um:g} um lies within it, holds {rule.least_cells} cells, all of them test cells, and "
        f"leaves half of its cells visible; {largest}"
    )
    return InputError(f"slide {slide}", what, "choose a protocol with smaller holes, or set holes.scale")
