"""An H&E of a toy slide: the same cells in pink and purple, turned, scaled and shifted by a known matrix.

It is drawn from the outlines, tile by tile and level by level, in the H&E's own pixels: nothing is resampled, so
that an image put back by the matrix must fit the DAPI image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from mistline.core.files import atomic_path, write_text
from mistline.core.geometry import um_to_px
from mistline.core.seeds import generator
from mistline.xenium.toy.cells import Tissue
from mistline.xenium.toy.render import periodic_texture
from mistline.xenium.toy.settings import ToySlide

PIXEL_UM = 0.2738
_TURN_DEGREES = 93.0  # slides are often scanned a quarter turned, and never quite straight
_RIM_UM = 20.0  # glass around the image
_TILE_PX, _MARGIN_PX, _SHIFT = 256, 16, 4
_REACH_UM = 16.0
_LEVELS_END_PX = 512
_LIGHT = 244.0
# Optical densities of the dyes in red, green, blue: near the textbook's, since no scanner has them exactly.
_HAEMATOXYLIN = np.array([0.62, 0.72, 0.31], dtype=np.float32)
_EOSIN = np.array([0.09, 0.98, 0.16], dtype=np.float32)


def write_he(image: Path, alignment: Path, slide: ToySlide, *, turn_degrees: float = _TURN_DEGREES) -> dict[str, Any]:
    """Write the H&E (OME-TIFF) of a slide and the csv of its matrix, as Xenium Explorer exports it.

    Args:
        image: the file to write.
        alignment: the csv to write.
        slide: the slide; needs not to be written before.
        turn_degrees: how far the H&E is turned.

    Returns:
        What is true of it, as JSON values.
    """
    shape, matrix = place(slide, turn_degrees)
    shapes = [shape]
    while len(shapes) < 2 or max(shapes[-1]) > _LEVELS_END_PX:
        shapes.append((max(shapes[-1][0] // 2, 1), max(shapes[-1][1] // 2, 1)))
    painter = _Painter(Tissue(slide), matrix)
    image.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(image) as part, tifffile.TiffWriter(part, bigtiff=True, ome=False) as writer:
        for level, size in enumerate(shapes):
            writer.write(
                painter.tiles(level, size, (shape[1] / size[1], shape[0] / size[0])),
                shape=(*size, 3),
                dtype=np.uint8,
                tile=(_TILE_PX, _TILE_PX),
                compression="jpeg",
                compressionargs={"level": 90},
                photometric="rgb",
                subfiletype=1 if level else 0,
                subifds=0 if level else len(shapes) - 1,
                description=None if level else _ome_xml(slide, shape).encode(),
                metadata=None,
                software="mistline toy",
            )
    write_text(alignment, "".join(",".join(f"{value:.6f}" for value in row) + "\n" for row in matrix.tolist()))
    return {"pixel_size_um": PIXEL_UM, "shape_px": list(shape), "matrix": matrix.tolist()}


def place(slide: ToySlide, turn_degrees: float) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """Return rows, columns of the H&E and the matrix that takes its pixels (x, y, 1) to those of the DAPI image."""
    scale, turn = PIXEL_UM / slide.pixel_size_um, math.radians(turn_degrees)
    part = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    half = np.array(slide.image_shape[::-1]) / 2
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * half @ np.linalg.inv(part).T
    width, height = (math.ceil(side) for side in 2 * (corners.max(axis=0) + _RIM_UM / PIXEL_UM))
    matrix = np.eye(3)
    matrix[:2, :2] = part
    matrix[:2, 2] = half - part @ (width / 2, height / 2)
    return (height, width), np.round(matrix, 6)


class _Painter:
    """Draws tiles of any level of the H&E."""

    def __init__(self, tissue: Tissue, matrix: NDArray[np.float64]) -> None:
        self._tissue, self._slide, self._matrix = tissue, tissue.slide, matrix
        self._texture = periodic_texture(self._slide.seed)

    def tiles(self, level: int, shape: tuple[int, int], per_px: tuple[float, float]) -> Iterator[NDArray[np.uint8]]:
        """Yield a level's tiles in the order of a TIFF.

        Args:
            level: its number, part of the seed of the noise.
            shape: rows, columns of the level.
            per_px: (x, y) pixels of the full resolution a pixel of the level.
        """
        forth = self._matrix @ np.diag([*per_px, 1])
        for top in range(0, shape[0], _TILE_PX):
            for left in range(0, shape[1], _TILE_PX):
                random = generator(self._slide.seed, "toy", self._slide.name, "he", level, top, left)
                yield self._tile(forth, (top, left), random)

    def _tile(
        self, forth: NDArray[np.float64], corner: tuple[int, int], random: np.random.Generator
    ) -> NDArray[np.uint8]:
        side = _TILE_PX + 2 * _MARGIN_PX
        haematoxylin, eosin = (np.zeros((side, side), dtype=np.float32) for _ in range(2))
        origin = np.array(corner[::-1]) - _MARGIN_PX
        back = np.linalg.inv(forth)
        um = self._slide.pixel_size_um
        ends = np.array([[0, 0], [side, 0], [0, side], [side, side]]) + origin
        ends_um = (ends @ forth[:2, :2].T + forth[:2, 2]) * um
        low, high = ends_um.min(axis=0) - _REACH_UM, ends_um.max(axis=0) + _REACH_UM
        for block in self._slide.lattice.blocks_at((low[0], low[1]), (high[0], high[1])):
            cells = self._tissue.cells(block)
            vary = 0.75 + 0.5 * cells.depth
            self._fill(eosin, cells.outlines.closed(), back, origin, 0.2 * vary)
            nuclei = cells.nuclei.outlines(fixed=False).closed()
            dye = 0.35 + 0.25 * cells.brightness[cells.nuclei.cell]
            self._fill(haematoxylin, nuclei, back, origin, dye)
            self._fill(eosin, nuclei, back, origin, np.full(len(dye), 0.05))
        blurred = [cv2.GaussianBlur(canvas, (0, 0), 0.9) for canvas in (haematoxylin, eosin)]
        inner = slice(_MARGIN_PX, _MARGIN_PX + _TILE_PX)
        grain = self._grain(corner)
        density = (blurred[0][inner, inner] * (1 + 0.25 * grain))[..., None] * _HAEMATOXYLIN
        density += (blurred[1][inner, inner] * (1 + 0.15 * grain) + 0.015)[..., None] * _EOSIN
        light = _LIGHT * 10**-density + 1.5 * random.standard_normal(density.shape, dtype=np.float32)
        return np.rint(np.clip(light, 0, 255)).astype(np.uint8)

    def _fill(
        self,
        canvas: NDArray[np.float32],
        closed: tuple[NDArray[np.float32], NDArray[np.int64]],
        back: NDArray[np.float64],
        origin: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Fill the outlines that touch the canvas, each with its value."""
        vertices, sizes = closed
        xy = um_to_px(vertices, self._slide.pixel_size_um)[:, ::-1]
        xy = xy @ back[:2, :2].T + back[:2, 2] - origin - 0.5  # cv2 counts from the centre of the first pixel
        points = np.rint(xy * 2**_SHIFT).astype(np.int32)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        for number, value in enumerate(values.tolist()):
            outline = points[bounds[number] : bounds[number + 1]]
            if (outline.max(axis=0) >= 0).all() and (outline.min(axis=0) < len(canvas) << _SHIFT).all():
                cv2.fillPoly(canvas, [outline], value, shift=_SHIFT)

    def _grain(self, corner: tuple[int, int]) -> NDArray[np.float32]:
        rows, columns = ((start + np.arange(_TILE_PX)) % len(self._texture) for start in corner)
        return np.asarray(self._texture[np.ix_(rows, columns)])


def _ome_xml(slide: ToySlide, shape: tuple[int, int]) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="mistline toy">'
        f'<Image ID="Image:0" Name="{slide.name} H&amp;E"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8"'
        f' SizeX="{shape[1]}" SizeY="{shape[0]}" SizeC="3" SizeZ="1" SizeT="1" Interleaved="true"'
        f' PhysicalSizeX="{PIXEL_UM}" PhysicalSizeXUnit="µm" PhysicalSizeY="{PIXEL_UM}" PhysicalSizeYUnit="µm">'
        '<Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
