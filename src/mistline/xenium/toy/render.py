"""Drawing: one tile of every plane and both label masks, seamless with its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mistline.core.geometry import um_to_px
from mistline.core.seeds import generator
from mistline.xenium.toy.cells import Cells, Tissue, donor_gain
from mistline.xenium.toy.tissue import Block

_TEXTURE_PX = 512
_LARGEST_NUCLEUS_UM = 5.8
_LARGEST_CELL_UM = 16.0
_MARGIN = 16  # pixels drawn around a tile, so that blurring knows no seam
_SHIFT = 4  # cv2 takes vertices in sixteenths of a pixel
_CHUNK = 96  # nuclei drawn at once

_DAPI_PEAK, _DAPI_CYTOPLASM, _DAPI_EMPTY = 1500.0, 110.0, 70.0
# Of the cell types, for the three stains beside DAPI: border, cytoplasm, fibres.
_MEMBRANE = np.array([1.0, 0.7, 0.15, 0.3, 0.8, 0.75, 0.4, 0.3])
_RNA = np.array([1.0, 0.8, 0.5, 0.4, 0.3, 0.28, 0.8, 0.6])
_FIBRES = np.array([0.05, 0.9, 1.0, 0.6, 0.04, 0.04, 0.15, 0.1])


@dataclass(frozen=True)
class Tile:
    """One tile of the image.

    Args:
        planes: [planes, side, side] uint16: the z-stack, its maximum (1.x), the in-focus DAPI, then other stains.
        masks: [2, side, side] uint32 labels of nuclei and cells, 0 where there is none.
    """

    planes: NDArray[np.uint16]
    masks: NDArray[np.uint32]


class Painter:
    """Draws the slide tile by tile.

    Args:
        tissue: the cells.
        nucleus_offsets: number of nuclei in the tables before each block.
    """

    def __init__(self, tissue: Tissue, nucleus_offsets: dict[Block, int]) -> None:
        self.tissue, self.slide, self.nucleus_offsets = tissue, tissue.slide, nucleus_offsets
        self.texture = periodic_texture(self.slide.seed)
        self.gain = donor_gain(self.slide)
        reach = int(np.ceil((_LARGEST_NUCLEUS_UM + 0.8) / self.slide.pixel_size_um))
        self.patch = 2 * reach

    @property
    def names(self) -> list[str]:
        """Names of the planes of a tile, in order."""
        stack = [f"z{number}" for number in range(self.slide.n_planes)]
        return (
            stack + ([] if self.slide.form.since_2 else ["mip"]) + [f"focus{n}" for n in range(len(self.slide.stains))]
        )

    def tile(self, row: int, col: int) -> Tile:
        """Draw the tile at (row, col) of the full-resolution grid; outside the image it is zero."""
        slide, side = self.slide, self.slide.tile
        origin = np.array([row * side, col * side])
        near = self._near(origin)
        cytoplasm, membrane, fibres, cell_mask = self._outlines(near, origin)
        nucleus_mask = self._nucleus_mask(near, origin)
        dapi = self._nuclei(near, origin)
        haze = self._haze(origin)
        dapi += (_DAPI_EMPTY + 25 * haze) + _DAPI_CYTOPLASM * _inner(cytoplasm, side) * self._grain(origin)
        signals = [*dapi]
        if len(slide.stains) > 1:
            hole = 1 - 0.75 * np.clip(dapi[-1] / _DAPI_PEAK, 0, 1)
            grain = self._grain(origin)
            signals.append(80 + 30 * haze + 1300 * _inner(membrane, side) * (0.7 + 0.3 * grain))
            signals.append(120 + 1600 * _inner(cytoplasm, side) * hole * (0.5 + 0.5 * grain))
            signals.append(60 + 20 * haze + 1200 * _inner(fibres, side) * hole * grain**2)
        planes = self._expose(signals, row, col)
        if not slide.form.since_2:
            mip = planes[: slide.n_planes].max(axis=0, keepdims=True)
            planes = np.concatenate([planes[: slide.n_planes], mip, planes[slide.n_planes :]])
        masks = np.stack([nucleus_mask, cell_mask]).astype(np.uint32)
        height, width = np.clip(np.array(slide.image_shape) - origin, 0, side)
        planes[:, height:], planes[:, :, width:] = 0, 0
        masks[:, height:], masks[:, :, width:] = 0, 0
        return Tile(planes, masks)

    def _near(self, origin: NDArray[np.int64]) -> list[tuple[Block, Cells]]:
        um = self.slide.pixel_size_um
        low = origin[::-1] * um - _LARGEST_CELL_UM
        high = (origin[::-1] + self.slide.tile) * um + _LARGEST_CELL_UM
        blocks = self.slide.lattice.blocks_at((low[0], low[1]), (high[0], high[1]))
        return [(block, self.tissue.cells(block)) for block in blocks]

    def _outlines(
        self, near: list[tuple[Block, Cells]], origin: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Draw cytoplasm, border and fibres (0 to about 1, with margin) and the cells' labels."""
        side = self.slide.tile + 2 * _MARGIN
        cytoplasm, membrane, fibres = (np.zeros((side, side), dtype=np.float32) for _ in range(3))
        mask = np.zeros((side, side), dtype=np.int32)
        stained = len(self.slide.stains) > 1
        thickness = max(1, round(0.7 / self.slide.pixel_size_um))
        for _, cells in near:
            vertices, sizes = cells.outlines.closed()
            for number, outline in self._visible(vertices, sizes, origin):
                kind = cells.draft.types[number]
                vary = 0.8 + 0.4 * cells.depth[number]
                cv2.fillPoly(cytoplasm, [outline], float(_RNA[kind] * vary), shift=_SHIFT)
                cv2.fillPoly(mask, [outline], int(cells.draft.first + number + 1), shift=_SHIFT)
                if stained:
                    cv2.fillPoly(fibres, [outline], float(_FIBRES[kind] * vary), shift=_SHIFT)
                    cv2.polylines(membrane, [outline], True, float(_MEMBRANE[kind] * vary), thickness, shift=_SHIFT)
        blurred = [
            cv2.GaussianBlur(canvas, (0, 0), sigma)
            for canvas, sigma in ((cytoplasm, 1.6), (membrane, 1.2), (fibres, 1.4))
        ]
        return blurred[0], blurred[1], blurred[2], _inner(mask, self.slide.tile)

    def _nucleus_mask(self, near: list[tuple[Block, Cells]], origin: NDArray[np.int64]) -> NDArray[np.int32]:
        side = self.slide.tile + 2 * _MARGIN
        mask = np.zeros((side, side), dtype=np.int32)
        for block, cells in near:
            vertices, sizes = cells.nuclei.outlines(fixed=not self.slide.form.since_2).closed()
            for number, outline in self._visible(vertices, sizes, origin):
                cv2.fillPoly(mask, [outline], self.nucleus_offsets[block] + number + 1, shift=_SHIFT)
        return _inner(mask, self.slide.tile)

    def _visible(
        self, vertices: NDArray[np.float32], sizes: NDArray[np.int64], origin: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int32]]]:
        """Return number and vertices (as cv2 wants them) of the outlines that touch the tile."""
        yx = um_to_px(vertices, self.slide.pixel_size_um) - origin + _MARGIN - 0.5  # pixel centres are at whole numbers
        points = np.rint(yx[:, ::-1] * 2**_SHIFT).astype(np.int32)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        low = np.minimum.reduceat(yx, bounds[:-1], axis=0) if len(sizes) else np.zeros((0, 2))
        high = np.maximum.reduceat(yx, bounds[:-1], axis=0) if len(sizes) else np.zeros((0, 2))
        side = self.slide.tile + 2 * _MARGIN
        touching = ((high >= 0) & (low < side)).all(axis=1)
        spans = list(pairwise(bounds))
        return [(int(number), points[slice(*spans[number])]) for number in np.flatnonzero(touching)]

    def _nuclei(self, near: list[tuple[Block, Cells]], origin: NDArray[np.int64]) -> NDArray[np.float32]:
        """Draw the nuclei's signal in every z plane and in focus, [planes + 1, side, side]."""
        side, pad, n_planes = self.slide.tile, self.patch, self.slide.n_planes
        canvas = np.zeros((n_planes + 1, side + 2 * pad, side + 2 * pad), dtype=np.float32)
        for _, cells in near:
            centre = um_to_px(cells.nuclei.centre_um, self.slide.pixel_size_um) - 0.5
            corner = np.floor(centre).astype(np.int64) - pad // 2
            shown = np.flatnonzero(((corner > origin - pad) & (corner < origin + side)).all(axis=1))
            for chunk in np.array_split(shown, max(1, -(-len(shown) // _CHUNK))):
                patches = self._patches(cells, chunk, centre[chunk], corner[chunk])
                for patch, (top, left) in zip(patches, corner[chunk] - origin + pad, strict=True):
                    canvas[:, top : top + pad, left : left + pad] += patch
        return canvas[:, pad:-pad, pad:-pad]

    def _patches(
        self, cells: Cells, which: NDArray[np.int64], centre: NDArray[np.float64], corner: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Draw nuclei one by one, [n, planes + 1, patch, patch]: sharp and bright near their own height."""
        nuclei, um = cells.nuclei, self.slide.pixel_size_um
        grid = np.arange(self.patch, dtype=np.float32)
        y = grid[None, :, None] + (corner - centre)[:, :1, None].astype(np.float32)
        x = grid[None, None, :] + (corner - centre)[:, 1:, None].astype(np.float32)
        cos, sin = (f(nuclei.angle[which]).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        long, short = ((nuclei.axes_um[which] / um).astype(np.float32).T)[:, :, None, None]
        depth = np.sqrt(((x * cos + y * sin) / long) ** 2 + ((y * cos - x * sin) / short) ** 2)
        inside = (1 - depth) * np.sqrt(long * short)  # about the distance to the border, in pixels
        owner = nuclei.cell[which]
        shift = (cells.rows[owner] * 7919) % _TEXTURE_PX
        rows = (np.arange(self.patch) + shift[:, None]) % _TEXTURE_PX
        cols = (np.arange(self.patch) + (shift * 31)[:, None]) % _TEXTURE_PX
        grain = self.texture[rows[:, :, None], cols[:, None, :]]
        height = cells.depth[owner] * (self.slide.n_planes - 1)
        away = np.abs(np.arange(self.slide.n_planes) - height[:, None])
        away = np.concatenate([away, np.zeros((len(which), 1))], axis=1).astype(np.float32)[:, :, None, None]
        softness = 1.1 + 1.6 * away
        signal = np.exp(-0.5 * (away / 1.2) ** 2) / (1 + np.exp(np.clip(-inside[:, None] / softness, -30, 30)))
        dome = 0.75 + 0.25 * np.sqrt(np.clip(1 - depth**2, 0, 1))
        peak = (_DAPI_PEAK * cells.brightness[owner]).astype(np.float32)[:, None, None]
        return signal * (peak * dome * (1 + 0.22 * grain))[:, None]

    def _grain(self, origin: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return a texture around 1 that continues across tiles."""
        rows, cols = ((start + np.arange(self.slide.tile)) % _TEXTURE_PX for start in origin)
        return np.clip(1 + 0.3 * self.texture[np.ix_(rows, cols)], 0, None)

    def _haze(self, origin: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return a slow variation of the background, -1 to 1."""
        rows, cols = (start + np.arange(self.slide.tile, dtype=np.float32) for start in origin)
        phases = self.tissue.plan.phases[8:]
        return np.outer(np.sin(rows / 900 + phases[0]), np.cos(cols / 1100 + phases[1])).astype(np.float32)

    def _expose(self, signals: list[NDArray[np.float32]], row: int, col: int) -> NDArray[np.uint16]:
        """Add shot and read noise and count: [planes, side, side]."""
        random = generator(self.slide.seed, "toy", self.slide.name, "noise", row, col)
        planes = np.empty((len(signals), *signals[0].shape), dtype=np.uint16)
        for plane, signal in zip(planes, signals, strict=True):
            light = signal * np.float32(self.gain)
            noise = random.standard_normal(light.shape, dtype=np.float32)
            light += noise * np.sqrt(0.8 * light + 16)
            plane[...] = np.rint(np.clip(light * np.float32(self.slide.intensity_scale), 0, 65535))
        return planes


def _inner(canvas: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    return canvas[_MARGIN : _MARGIN + side, _MARGIN : _MARGIN + side]


def periodic_texture(seed: int) -> NDArray[np.float32]:
    """Return a periodic texture of two grain sizes, mean 0 and deviation 1."""
    white = generator(seed, "toy", "texture").standard_normal((_TEXTURE_PX, _TEXTURE_PX))
    frequency = np.hypot(np.fft.fftfreq(_TEXTURE_PX)[:, None], np.fft.rfftfreq(_TEXTURE_PX)[None])
    weight = np.exp(-((frequency * 14) ** 2)) + 0.35 * np.exp(-((frequency * 5) ** 2))
    weight[0, 0] = 0
    smooth = np.fft.irfft2(np.fft.rfft2(white) * weight, s=white.shape)
    return (smooth / smooth.std()).astype(np.float32)
