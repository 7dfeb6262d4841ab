"""The finished cells of a block: counts, nuclei, outlines, and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from mistline.core.seeds import generator
from mistline.xenium.toy import ids
from mistline.xenium.toy.panel import (
    CONTROL_MEAN,
    MORPHOLOGY,
    REACH_UM,
    RECEIVER,
    SENDER,
    TARGET_FOLD,
    TARGETS,
    build_panel,
)
from mistline.xenium.toy.settings import ToySlide
from mistline.xenium.toy.shape import Ellipses, Outlines, Room, outline_cells
from mistline.xenium.toy.tissue import Block, Draft, Plan

_HALF_COUNT = 8.0
_WITHOUT_NUCLEUS = 0.01
_CACHED_BLOCKS = 32  # a tile and its surroundings touch at most 16


@dataclass(frozen=True)
class Cells:
    """The cells of one block, in the order of the tables.

    Args:
        draft: where they lie and what they are.
        ids: [n] as the layout spells them.
        prefix: [n] the number behind the id.
        counts: [n, features] sparse counts, controls included.
        outlines: of the cells.
        nuclei: of the cells; in layouts from 2.0 on a cell may have none or two.
        brightness: [n] of the nuclei, 1 is average.
        depth: [n] height of the cell in the section, 0 (bottom) to 1.
        sender_um: [n] distance of the nearest sender; infinite where none is near.
    """

    draft: Draft
    ids: NDArray[np.str_]
    prefix: NDArray[np.uint32]
    counts: csr_matrix
    outlines: Outlines
    nuclei: Ellipses
    brightness: NDArray[np.float64]
    depth: NDArray[np.float64]
    sender_um: NDArray[np.float64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers in the slide's tables."""
        return self.draft.first + np.arange(len(self.ids))

    @property
    def nucleus_count(self) -> NDArray[np.int64]:
        """Nuclei of each cell."""
        return np.bincount(self.nuclei.cell, minlength=len(self.ids))


def saturate(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Map counts to 0..1, rising: n / (n + 8)."""
    return counts / (counts + _HALF_COUNT)


def nucleus_radius_um(nucsize: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the radius of the circle of the nucleus' area, known from the counts of NUCSIZE."""
    return 2.2 + 1.6 * saturate(nucsize)


def nucleus_eccentricity(nucecc: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the eccentricity of the nucleus, known from the counts of NUCECC."""
    return 0.95 * np.sqrt(saturate(nucecc))


def nucleus_brightness(nucbri: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the factor on the nucleus' DAPI signal, known from the counts of NUCBRI."""
    return 0.4 + 1.5 * saturate(nucbri)


class Tissue:
    """Every cell of a slide, made again whenever asked; only a few blocks are held."""

    def __init__(self, slide: ToySlide) -> None:
        self.slide = slide
        self.plan = Plan(slide)
        self.panel = build_panel(slide)
        self.donor_fold = donor_fold(slide, self.panel.n_genes)
        self.draft = lru_cache(4 * _CACHED_BLOCKS)(self.plan.draft)
        self.cells = lru_cache(_CACHED_BLOCKS)(self._cells)
        rows, cols = slide.lattice.blocks
        self._planted_block = (rows // 2, cols // 2) if slide.form.since_2 else None

    def planted_row(self) -> int | None:
        """Return the row of the cell with two nuclei; layouts before 2.0 know one nucleus a cell."""
        return None if self._planted_block is None else int(np.mean(self.plan.bounds(self._planted_block)))

    def _around(self, block: Block) -> Draft:
        """Join the drafts of a block and its neighbours."""
        rows, cols = self.slide.lattice.blocks
        near = [
            self.draft((row, col))
            for row in range(max(block[0] - 1, 0), min(block[0] + 2, rows))
            for col in range(max(block[1] - 1, 0), min(block[1] + 2, cols))
        ]
        joined = (
            np.concatenate([getattr(draft, name) for draft in near])
            for name in ("xy_um", "types", "domains", "weights")
        )
        return Draft(0, *joined)

    def _cells(self, block: Block) -> Cells:
        slide, draft, around = self.slide, self.draft(block), self._around(block)
        # One generator a purpose: the same cells in every layout, though their controls, nuclei and vertices differ.
        random = self._random("shape", block)
        sender_um = _distance_to(around.xy_um[around.types == SENDER], draft.xy_um)
        counts = self._counts(draft, sender_um, block)
        room = Room.between(draft.xy_um, draft.weights, around.xy_um, around.weights, slide.lattice.spacing_um)
        nuclei = self._nuclei(draft, counts, room, random)
        depth = random.beta(2.5, 2.5, len(draft.types))
        outlines = outline_cells(room, nuclei, random, fixed=not slide.form.since_2)
        rows = draft.first + np.arange(len(draft.xy_um))
        prefix = ids.prefixes(rows, slide.n_cells, slide.seed)
        if slide.form.integer_ids:
            prefix = (rows + 1).astype(np.uint32)
        return Cells(
            draft=draft,
            ids=prefix.astype(str) if slide.form.integer_ids else ids.encode(prefix),
            prefix=prefix,
            counts=csr_matrix(counts),
            outlines=outlines,
            nuclei=nuclei,
            brightness=nucleus_brightness(counts[:, self._morphology_genes()[2]]),
            depth=depth,
            sender_um=sender_um,
        )

    def _random(self, purpose: str, block: Block) -> np.random.Generator:
        return generator(self.slide.seed, "toy", self.slide.name, purpose, *block)

    def _morphology_genes(self) -> NDArray[np.int64]:
        return self.panel.index(*MORPHOLOGY)

    def _counts(self, draft: Draft, sender_um: NDArray[np.float64], block: Block) -> NDArray[np.int32]:
        panel, n_cells, random = self.panel, len(draft.types), self._random("counts", block)
        means = panel.means[draft.types] * panel.domain_fold[draft.domains] * self.donor_fold
        means *= random.lognormal(-0.06, 0.35, (n_cells, 1))
        near = (draft.types == RECEIVER) & (sender_um <= REACH_UM)
        means[np.ix_(near, panel.index(*TARGETS))] *= TARGET_FOLD
        # The morphology genes have a wide spread of their own, and neither the cell's size nor its donor moves them.
        genes = self._morphology_genes()
        means[:, genes] = panel.means[draft.types][:, genes] * random.gamma(3.0, 1 / 3, (n_cells, len(genes)))
        genes = random.poisson(means)
        controls = self._random("controls", block).poisson(CONTROL_MEAN, (n_cells, len(panel.ids) - panel.n_genes))
        return np.concatenate([genes, controls], axis=1).astype(np.int32)

    def _nuclei(self, draft: Draft, counts: NDArray[np.int32], room: Room, random: np.random.Generator) -> Ellipses:
        nucsize, nucecc, _ = counts[:, self._morphology_genes()].T
        n_cells = len(draft.types)
        present = np.ones(n_cells, dtype=np.int64)
        missing = random.random(n_cells) < _WITHOUT_NUCLEUS
        if self.slide.form.since_2:
            present[missing] = 0
        planted = self.planted_row()
        local = -1 if planted is None else planted - draft.first
        if 0 <= local < n_cells:
            present[local] = 2
        cell = np.repeat(np.arange(n_cells), present)
        ratio = np.sqrt(1 - nucleus_eccentricity(nucecc) ** 2)
        radius = nucleus_radius_um(nucsize)
        axes = np.stack([radius / np.sqrt(ratio), radius * np.sqrt(ratio)], axis=1)[cell]
        angle = (room.long_direction() + random.normal(0, 0.15, n_cells))[cell]
        centre = (draft.xy_um + random.normal(0, 0.25, (n_cells, 2)))[cell]
        twins = cell == local
        if twins.any():
            # Side by side across the short axis, each with 0.7 of the length: both fit into one cell.
            axes[twins] *= 0.7
            across = np.stack([-np.sin(angle[twins]), np.cos(angle[twins])], axis=1)
            centre[twins] += across * (axes[twins, 1:] + 0.4) * np.array([[-1.0], [1.0]])
        return Ellipses(cell, centre, axes, angle)


def donor_fold(slide: ToySlide, n_genes: int) -> NDArray[np.float64]:
    """Return the donor's factor on each gene, [n_genes]."""
    return generator(slide.seed, "toy", "donor", slide.donor, "genes").lognormal(0, 0.2, n_genes)


def donor_gain(slide: ToySlide) -> float:
    """Return the donor's factor on every intensity."""
    return float(generator(slide.seed, "toy", "donor", slide.donor, "gain").uniform(0.75, 1.3))


def _distance_to(points_um: NDArray[np.float64], xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(points_um):
        return np.full(len(xy_um), np.inf)
    distance = cKDTree(points_um).query(xy_um, distance_upper_bound=2 * REACH_UM)[0]
    return np.asarray(distance, dtype=np.float64)
