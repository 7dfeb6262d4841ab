"""Circles of test cells that are changed (ROIs), and the rings around them that are hidden and generated.

Circles are drawn by hashes of the cells' ids, the same for every model and machine, or named by the settings. A circle
and its ring hold test cells only, and those of a slide do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mistline.config.perturbation import Perturbation
from mistline.core.errors import InputError
from mistline.core.seeds import ranked

_TRIED = 5000  # centres, in the order of the draw
_HIDDEN = 0.5  # share of a slide's cells that one ring hides, at most
_REMEDY = "lower radius_um or ring_um, or choose another place"

Rows = NDArray[np.int64]
Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Roi:
    """One circle and its ring.

    Args:
        number: of the slide's circles, in the order of the draw.
        centre_um: x and y.
        inside: [n] the cells of the circle, rising.
        ring: [m] those of the ring, rising.
    """

    number: int
    centre_um: tuple[float, float]
    inside: Rows
    ring: Rows


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A circle of the same size that is far from a ring.

    Args:
        centre_um: x and y.
        inside: [n] its cells, rising.
        away_um: between the two centres.
        is_far: whether nothing that is generated in the ring reads its cells.
    """

    centre_um: tuple[float, float]
    inside: Rows
    away_um: float
    is_far: bool


def away_um(xy_um: NDArray[np.floating], centre_um: tuple[float, float]) -> Places:
    """Return [n] distances to a centre; places are read as float32, as every file has them."""
    places = np.asarray(xy_um, dtype=np.float32).astype(np.float64)
    return np.hypot(*(places - np.asarray(centre_um)).T)


def place_rois(
    ids: Sequence[str], xy_um: NDArray[np.floating], tested: NDArray[np.bool_], rule: Perturbation, slide: str
) -> list[Roi]:
    """Place the circles of one slide: those that are named, or `rule.n_rois` of a draw, or as many as fit.

    Args:
        ids: [n] of all cells of the slide.
        xy_um: [n, 2] their places.
        tested: [n] whether a cell is in the test split.
        rule: sizes, how many, and where.
        slide: its name.

    Raises:
        InputError: a cell has no place, none of a draw fits, or a named one holds too few cells or others than test
            cells.
    """
    if not np.isfinite(xy_um).all():
        raise InputError(f"slide {slide}", "a cell has no coordinates", "leave the slide out with only:")
    if rule.at:
        named = [(x, y) for name, x, y in rule.at if name == slide]
        return [_named(number, centre, xy_um, tested, rule, slide) for number, centre in enumerate(named)]
    found: list[Roi] = []
    for centre in _drawn(ids, xy_um, tested, rule, slide):
        if all(np.hypot(*np.subtract(centre, roi.centre_um)) > 2 * rule.reach_um for roi in found):
            found.append(_roi(len(found), centre, xy_um, rule))
        if len(found) == rule.n_rois:
            break
    if not found:
        what = (
            f"no circle of {rule.radius_um:g} um with a ring of {rule.ring_um:g} um holds {rule.least_cells} cells in "
            "each, all of them test cells"
        )
        raise InputError(f"slide {slide}", what, "lower perturbation.radius_um, ring_um or least_cells")
    return found


def _roi(number: int, centre_um: tuple[float, float], xy_um: NDArray[np.floating], rule: Perturbation) -> Roi:
    away = away_um(xy_um, centre_um)
    inside = np.flatnonzero(away <= rule.radius_um)
    return Roi(number, centre_um, inside, np.flatnonzero((away > rule.radius_um) & (away <= rule.reach_um)))


def _named(
    number: int,
    centre_um: tuple[float, float],
    xy_um: NDArray[np.floating],
    tested: NDArray[np.bool_],
    rule: Perturbation,
    slide: str,
) -> Roi:
    where, roi = f"slide {slide}, circle at {centre_um[0]:g}, {centre_um[1]:g}", _roi(number, centre_um, xy_um, rule)
    for name, rows in (("circle", roi.inside), ("ring", roi.ring)):
        if len(rows) < rule.least_cells:
            raise InputError(where, f"its {name} holds {len(rows)} cells, fewer than {rule.least_cells}", _REMEDY)
    others = int((~tested[np.concatenate([roi.inside, roi.ring])]).sum())
    if others:
        what = f"{others} of its cells are no test cells, and a model may have seen them"
        raise InputError(where, what, _REMEDY)
    if len(roi.ring) > _HIDDEN * len(xy_um):
        raise InputError(where, "its ring hides more than half of the slide", _REMEDY)
    return roi


def _drawn(
    ids: Sequence[str], xy_um: NDArray[np.floating], tested: NDArray[np.bool_], rule: Perturbation, slide: str
) -> list[tuple[float, float]]:
    """Return the centres that fit among the first of a draw, in its order."""
    own = np.flatnonzero(tested)
    if not len(own):
        return []
    xy = np.asarray(xy_um, dtype=np.float32).astype(np.float64)
    centres = xy[own[ranked([ids[i] for i in own], 0, "rois", slide)][:_TRIED]]
    everything, others = cKDTree(xy), cKDTree(xy[~tested]) if not tested.all() else None
    inside = _numbers(everything, centres, rule.radius_um)
    whole = _numbers(everything, centres, rule.reach_um)
    is_pure = np.ones(len(centres), dtype=bool) if others is None else _numbers(others, centres, rule.reach_um) == 0
    ring = whole - inside
    fits = is_pure & (inside >= rule.least_cells) & (ring >= rule.least_cells) & (ring <= _HIDDEN * len(xy))
    return [(float(x), float(y)) for x, y in centres[fits]]


def _numbers(tree: cKDTree, centres: Places, radius_um: float) -> Rows:
    return np.asarray(tree.query_ball_point(centres, radius_um, return_length=True), dtype=np.int64)


def elsewhere(
    roi: Roi, ids: Sequence[str], xy_um: NDArray[np.floating], rule: Perturbation, window_um: float, slide: str
) -> Elsewhere:
    """Return a circle of the same size far from a ring: the first of a draw that is, else the farthest.

    A place is generated from windows around seen cells that are at most half a window away, and a window's corners are
    half its diagonal from its centre: what lies beyond both is not read.

    Args:
        roi: with the ring.
        ids: [n] of all cells of the slide.
        xy_um: [n, 2].
        rule: sizes.
        window_um: side of the model's windows.
        slide: its name.

    Raises:
        InputError: no circle of enough cells lies clear of the ring.
    """
    far = rule.reach_um + rule.radius_um + window_um / 2 * (1 + np.sqrt(2))
    xy = np.asarray(xy_um, dtype=np.float32).astype(np.float64)
    away = away_um(xy, roi.centre_um)
    clear = np.flatnonzero(away > rule.reach_um + rule.radius_um)
    order = clear[ranked([ids[i] for i in clear], 0, "rois", "elsewhere", slide, roi.number)]
    order = np.concatenate([order[away[order] > far][:_TRIED], clear[np.argsort(-away[clear], kind="stable")][:_TRIED]])
    fits = order[_numbers(cKDTree(xy), xy[order], rule.radius_um) >= rule.least_cells] if len(order) else order
    if not len(fits):
        what = f"no other circle of {rule.radius_um:g} um with {rule.least_cells} cells lies clear of ring {roi.number}"
        raise InputError(f"slide {slide}", what, "lower perturbation.radius_um or ring_um")
    row = int(fits[0])
    centre = (float(xy[row, 0]), float(xy[row, 1]))
    inside = np.flatnonzero(away_um(xy, centre) <= rule.radius_um)
    return Elsewhere(centre, inside, float(away[row]), bool(away[row] > far))
