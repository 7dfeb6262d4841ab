"""Outlines: cells share the room between their neighbours, nuclei are ellipses within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

MOST_VERTICES = 24
_FEWEST_VERTICES = 12
_GAP = 0.96  # what is left of the way to the border between two cells
_NEIGHBOURS = 12
_ROOMY = 0.72  # radius of a cell beside a gap, in spacings


@dataclass(frozen=True)
class Outlines:
    """Closed outlines in micrometres.

    Args:
        xy_um: [n, MOST_VERTICES, 2]; only the first `sizes` vertices of each count.
        sizes: [n] vertices, the repeated first one not counted.
    """

    xy_um: NDArray[np.float32]
    sizes: NDArray[np.int64]

    def area_um2(self) -> NDArray[np.float64]:
        """Return the area of each outline (shoelace formula)."""
        x, y = self.xy_um[..., 0].astype(np.float64), self.xy_um[..., 1].astype(np.float64)
        follower = _followers(self.sizes)
        x2, y2 = np.take_along_axis(x, follower, 1), np.take_along_axis(y, follower, 1)
        cross = np.where(_used(self.sizes), x * y2 - x2 * y, 0.0)
        return np.abs(cross.sum(axis=1)) / 2

    def centroid_um(self) -> NDArray[np.float64]:
        """Return the centre of gravity of each outline, [n, 2]."""
        first = self.xy_um[:, :1].astype(np.float64)
        xy = self.xy_um.astype(np.float64) - first  # near the origin, so that nothing cancels
        x, y = xy[..., 0], xy[..., 1]
        follower = _followers(self.sizes)
        x2, y2 = np.take_along_axis(x, follower, 1), np.take_along_axis(y, follower, 1)
        cross = np.where(_used(self.sizes), x * y2 - x2 * y, 0.0)
        total = 3 * cross.sum(axis=1)
        centre = np.stack([((x + x2) * cross).sum(axis=1) / total, ((y + y2) * cross).sum(axis=1) / total], axis=1)
        return centre + first[:, 0]

    def closed(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return all vertices one after another, the first of each outline repeated, and their number an outline."""
        closed = np.concatenate([self.xy_um, self.xy_um[:, :1]], axis=1)
        rows = np.arange(len(closed))
        closed[rows, self.sizes] = closed[:, 0]
        used = np.arange(MOST_VERTICES + 1) <= self.sizes[:, None]
        return closed[used], self.sizes + 1


@dataclass(frozen=True)
class Ellipses:
    """Nuclei of a block.

    Args:
        cell: [m] row of the cell within the block, ascending.
        centre_um: [m, 2].
        axes_um: [m, 2] semi-axes, the longer first.
        angle: [m] direction of the longer axis in radians.
    """

    cell: NDArray[np.int64]
    centre_um: NDArray[np.float64]
    axes_um: NDArray[np.float64]
    angle: NDArray[np.float64]

    def outlines(self, fixed: bool) -> Outlines:
        """Return the nuclei's outlines: 12 vertices each, or 16 where not `fixed`."""
        size = _FEWEST_VERTICES if fixed else 16
        turn = np.linspace(0, 2 * np.pi, size, endpoint=False)
        # An ellipse's polygon has less area than the ellipse: the vertices go out by the square root of the ratio.
        swell = np.sqrt(2 * np.pi / size / np.sin(2 * np.pi / size))
        local = swell * self.axes_um[:, None, :] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        xy = np.zeros((len(self.cell), MOST_VERTICES, 2), dtype=np.float32)
        xy[:, :size, 0] = self.centre_um[:, :1] + local[..., 0] * cos - local[..., 1] * sin
        xy[:, :size, 1] = self.centre_um[:, 1:] + local[..., 0] * sin + local[..., 1] * cos
        return Outlines(xy, np.full(len(self.cell), size))

    def depth(self, xy_um: NDArray[np.float64], which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how deep points lie in the given ellipses: 0 at the centre, 1 on the border."""
        offset = xy_um - self.centre_um[which]
        cos, sin = np.cos(self.angle[which]), np.sin(self.angle[which])
        along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
        return np.hypot(along / self.axes_um[which, 0], across / self.axes_um[which, 1])


@dataclass(frozen=True)
class Room:
    """The room each cell has: the distance of its border in any direction."""

    xy_um: NDArray[np.float64]
    border_um: NDArray[np.float64]  # [n, k] distance of the border with each neighbour
    bearing: NDArray[np.float64]  # [n, k] direction of each neighbour
    widest_um: NDArray[np.float64]

    @staticmethod
    def between(
        xy_um: NDArray[np.float64],
        weights: NDArray[np.float64],
        around_um: NDArray[np.float64],
        around_weights: NDArray[np.float64],
        spacing_um: float,
    ) -> Room:
        """Divide the room between cells and all cells around (themselves included) by their weights."""
        n_neighbours = min(_NEIGHBOURS, len(around_um) - 1)
        distance, neighbour = cKDTree(around_um).query(xy_um, k=n_neighbours + 1)
        distance, neighbour = distance[:, 1:], neighbour[:, 1:]
        offset = around_um[neighbour] - xy_um[:, None]
        share = weights[:, None] / (weights[:, None] + around_weights[neighbour])
        widest = _ROOMY * spacing_um * np.sqrt(weights / 5.4)
        return Room(xy_um, distance * share, np.arctan2(offset[..., 1], offset[..., 0]), widest)

    def radius_um(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of the border along angles, [n, a] -> [n, a]."""
        facing = np.cos(angles[:, :, None] - self.bearing[:, None, :])
        with np.errstate(divide="ignore"):
            reach = np.where(facing > 1e-3, self.border_um[:, None, :] / np.maximum(facing, 1e-3), np.inf)
        return np.minimum(reach.min(axis=2), self.widest_um[:, None]) * _GAP

    def long_direction(self) -> NDArray[np.float64]:
        """Return the direction in which each cell is longest, in radians."""
        angles = np.linspace(0, 2 * np.pi, MOST_VERTICES, endpoint=False)
        radius = self.radius_um(np.broadcast_to(angles, (len(self.xy_um), MOST_VERTICES)))
        half = MOST_VERTICES // 2
        return angles[np.argmax(radius[:, :half] + radius[:, half:], axis=1)]


def outline_cells(room: Room, nuclei: Ellipses, random: np.random.Generator, fixed: bool) -> Outlines:
    """Draw an irregular outline for each cell that holds its nuclei.

    Args:
        room: of the cells.
        nuclei: of the same cells.
        random: of this block.
        fixed: 12 vertices each, as 1.x writes; else 12 to 24.
    """
    n_cells = len(room.xy_um)
    sizes = random.integers(_FEWEST_VERTICES, MOST_VERTICES + 1, n_cells)
    if fixed:
        sizes[:] = _FEWEST_VERTICES
    angles = 2 * np.pi * np.arange(MOST_VERTICES) / sizes[:, None] + random.uniform(0, 2 * np.pi, (n_cells, 1))
    phase = random.uniform(0, 2 * np.pi, (2, n_cells, 1))
    wobble = 0.03 * np.sin(3 * angles + phase[0]) + 0.02 * np.sin(5 * angles + phase[1])
    radius = room.radius_um(angles) * (0.97 + wobble)
    direction = np.stack([np.cos(angles), np.sin(angles)], axis=2)
    np.maximum.at(radius, nuclei.cell, _reach_um(nuclei, room, direction) + 0.5)
    xy = room.xy_um[:, None] + radius[..., None] * direction
    return Outlines(np.where(_used(sizes)[..., None], xy, 0).astype(np.float32), sizes)


def _reach_um(nuclei: Ellipses, room: Room, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each nucleus reaches from its cell's centre along the directions, [m, a]."""
    ray, offset = direction[nuclei.cell], nuclei.centre_um - room.xy_um[nuclei.cell]
    cos, sin = np.cos(nuclei.angle)[:, None], np.sin(nuclei.angle)[:, None]
    long, short = nuclei.axes_um[:, :1], nuclei.axes_um[:, 1:]
    # In the frame where the ellipse is the unit circle: |t * u - v| = 1, the far solution.
    ux, uy = (ray[..., 0] * cos + ray[..., 1] * sin) / long, (ray[..., 1] * cos - ray[..., 0] * sin) / short
    vx, vy = (offset[:, :1] * cos + offset[:, 1:] * sin) / long, (offset[:, 1:] * cos - offset[:, :1] * sin) / short
    a, b, c = ux**2 + uy**2, ux * vx + uy * vy, vx**2 + vy**2 - 1
    root = b**2 - a * c
    return np.where(root > 0, (b + np.sqrt(np.maximum(root, 0))) / a, 0.0)


def _used(sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.arange(MOST_VERTICES) < sizes[:, None]


def _followers(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the vertex after each, wrapping around at the outline's size."""
    return (np.arange(MOST_VERTICES) + 1) % np.maximum(sizes[:, None], 1)
