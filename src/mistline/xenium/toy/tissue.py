"""Where cells lie and what they are: domains, lumens and types, block by block, each block from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.xenium.toy.panel import CELL_TYPES, DOMAINS, SENDER
from mistline.xenium.toy.settings import ToySlide

Block = tuple[int, int]

# Share of cell types (columns: CELL_TYPES) by domain (rows: DOMAINS); macrophages come in patches.
MIXTURE = np.array(
    [
        [0.80, 0.04, 0.04, 0.05, 0.04, 0.01, 0, 0.02],
        [0.38, 0.22, 0.14, 0.06, 0.15, 0.03, 0, 0.02],
        [0.06, 0.06, 0.56, 0.17, 0.07, 0.02, 0, 0.06],
        [0.03, 0.01, 0.08, 0.08, 0.30, 0.48, 0, 0.02],
    ]
)
PATCH_SHARE = 0.3  # share of macrophages within a patch
_WEIGHTS = np.array([6.5, 5.4, 5.8, 5.0, 4.4, 4.4, 6.2, 5.6])  # of the cell types, for the room they take
_DOMAIN_EDGES = (0.25, 0.52, 0.84)
_JITTER = 0.24  # share of the spacing
_LARGEST_RADIUS_UM = 1000.0  # beyond this, domains repeat as rings


@dataclass(frozen=True)
class Draft:
    """The cells of one block before anything that depends on neighbours.

    Args:
        first: row number of the first cell in the slide's tables.
        xy_um: [n, 2] where the cells lie.
        types: [n] index into CELL_TYPES.
        domains: [n] index into DOMAINS.
        weights: [n] room a cell takes beside its neighbours.
    """

    first: int
    xy_um: NDArray[np.float64]
    types: NDArray[np.int64]
    domains: NDArray[np.int64]
    weights: NDArray[np.float64]


class Plan:
    """Quotas of blocks and the smooth fields that shape the tissue; a few numbers a block."""

    def __init__(self, slide: ToySlide) -> None:
        self.slide = slide
        lattice = slide.lattice
        rows = np.array([len(lattice.sites((row, 0))[0]) for row in range(lattice.blocks[0])], dtype=np.int64)
        cols = np.array([len(lattice.sites((0, col))[1]) for col in range(lattice.blocks[1])], dtype=np.int64)
        reached = np.cumsum(np.outer(rows, cols).ravel())
        # Rounding the running total gives every block its share and the slide exactly n_cells.
        self.offsets = np.concatenate([[0], reached * slide.n_cells // reached[-1]])
        random = generator(slide.seed, "toy", slide.name, "fields")
        self.phases = random.uniform(0, 2 * np.pi, 12)
        size_px = np.array(slide.image_shape[::-1])
        self.extent_um = size_px * slide.pixel_size_um
        self.centre_um = self.extent_um * random.uniform(0.4, 0.6, 2)
        tilt = generator(slide.seed, "toy", "donor", slide.donor, "mixture").lognormal(0, 0.2, MIXTURE.shape)
        self.mixture = MIXTURE * tilt / (MIXTURE * tilt).sum(axis=1, keepdims=True)

    def blocks(self) -> list[Block]:
        """Return every block in the order of the tables."""
        rows, cols = self.slide.lattice.blocks
        return [(row, col) for row in range(rows) for col in range(cols)]

    def bounds(self, block: Block) -> tuple[int, int]:
        """Return the first row of a block in the tables, and the row after its last."""
        number = block[0] * self.slide.lattice.blocks[1] + block[1]
        return int(self.offsets[number]), int(self.offsets[number + 1])

    def draft(self, block: Block) -> Draft:
        """Place and name the cells of a block."""
        slide = self.slide
        random = generator(slide.seed, "toy", slide.name, "draft", *block)
        xy_um = self._sites(block, random)
        score = self._tissue_score(xy_um) + random.normal(0, 0.25, len(xy_um))
        first, last = self.bounds(block)
        kept = np.sort(np.argsort(-score, kind="stable")[: last - first])
        xy_um = xy_um[kept]
        domains = self.domains(xy_um)
        types = _pick(self.mixture[domains], random.random(len(xy_um)))
        patchy = self._in_patch(xy_um) & (random.random(len(xy_um)) < PATCH_SHARE)
        types[patchy] = SENDER
        weights = _WEIGHTS[types] * random.lognormal(0, 0.06, len(xy_um))
        return Draft(first, xy_um, types, domains, weights)

    def domains(self, xy_um: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the domain at positions: wavy rings around a centre, repeated on very large slides."""
        offset = xy_um - self.centre_um
        angle = np.arctan2(offset[:, 1], offset[:, 0])
        largest = min(float(np.hypot(*self.extent_um)) / 2, _LARGEST_RADIUS_UM)
        radius = np.hypot(*offset.T) / largest
        wave = 0.09 * np.sin(3 * angle + self.phases[0]) + 0.05 * np.sin(7 * angle + self.phases[1])
        ring = 0.5 - 0.5 * np.cos(np.pi * np.clip(radius + wave * np.minimum(radius * 2, 1), 0, None))
        domain = np.digitize(ring, _DOMAIN_EDGES)
        # Follicles also lie as islands in the stroma, so that domains are not a function of the radius alone.
        island = self._waves(xy_um, 210.0, 190.0, 2) > 0.72
        return np.where(island & (domain == DOMAINS.index("stroma")), DOMAINS.index("follicle"), domain)

    def _sites(self, block: Block, random: np.random.Generator) -> NDArray[np.float64]:
        lattice = self.slide.lattice
        rows, cols = (axis.ravel() for axis in np.meshgrid(*map(np.array, lattice.sites(block)), indexing="ij"))
        x = (cols + 0.5 + 0.5 * (rows % 2)) * lattice.spacing_um
        y = (rows + 0.5) * lattice.row_um
        jitter = random.uniform(-_JITTER, _JITTER, (len(rows), 2)) * lattice.spacing_um
        return np.clip(np.stack([x, y], axis=1) + jitter, 2.0, self.extent_um - 2.0)

    def _tissue_score(self, xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
        return -(np.abs(self._waves(xy_um, 170.0, 145.0, 4)) ** 3)

    def _in_patch(self, xy_um: NDArray[np.float64]) -> NDArray[np.bool_]:
        return self._waves(xy_um, 310.0, 270.0, 6) > 0.6

    def _waves(self, xy_um: NDArray[np.float64], x_um: float, y_um: float, phase: int) -> NDArray[np.float64]:
        """Return a smooth field in -1..1 with the given wavelengths."""
        x, y = xy_um.T
        first = np.sin(2 * np.pi * (x / x_um + 0.3 * y / y_um) + self.phases[phase])
        second = np.sin(2 * np.pi * (y / y_um - 0.2 * x / x_um) + self.phases[phase + 1])
        return first * second


def _pick(shares: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw one column a row with the row's shares."""
    chosen = (np.cumsum(shares, axis=1) < uniform[:, None]).sum(axis=1)
    return np.minimum(chosen, len(CELL_TYPES) - 1)
