"""The H&E on the DAPI grid: every pixel where the matrix says, for any block, level and direction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from mistline.mist import he
from mistline.mist.he import Grid, Registered, covered_cells, resample
from mistline.mist.pyramid import Description
from mistline.xenium.histology import open_histology

SHAPE = (260, 340)  # of the H&E
TARGET = (300, 280)  # of the DAPI image


def ramp(shape: tuple[int, int]) -> np.ndarray:
    """Red tells the column, green the row: a pixel says where it came from."""
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0])[:, None] + 0.5
    red, green = np.broadcast_to(x * 240 / shape[1], shape), np.broadcast_to(y * 240 / shape[0], shape)
    return np.rint(np.stack([red, green, np.full(shape, 9.0)], axis=2)).astype(np.uint8)


@contextmanager
def registered(folder: Path, matrix: np.ndarray, levels: int = 1) -> Iterator[Registered]:
    path = folder / "he.tif"
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            shape = (SHAPE[0] >> level, SHAPE[1] >> level)
            writer.write(
                ramp(shape), photometric="rgb", tile=(64, 64), subifds=None if level else levels - 1,
                subfiletype=1 if level else 0,
            )  # fmt: skip
    with open_histology(path, folder) as histology:
        yield Registered(histology, matrix)


def turned(degrees: float, scale: float, *, mirrored: bool = False) -> np.ndarray:
    """Put the middle of the H&E on the middle of the DAPI image."""
    turn = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirrored:
        matrix[:2, 0] *= -1
    matrix[:2, 2] = np.array(TARGET[::-1]) / 2 - matrix[:2, :2] @ (np.array(SHAPE[::-1]) / 2)
    return matrix


def origin(matrix: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return where on the H&E the centre of each pixel of a block lies, [rows, columns, (x, y)]."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.stack([x + corner[1], y + corner[0], np.ones(shape)], axis=-1)
    return (points @ np.linalg.inv(matrix).T)[..., :2]


@pytest.mark.parametrize(
    "matrix",
    [turned(0, 1), turned(0, 1.29), turned(93, 1.29), turned(-90, 1.1), turned(31, 1.5), turned(180, 1.29),
     turned(0, 1.3, mirrored=True), turned(60, 1.3, mirrored=True)],
)  # fmt: skip
def test_a_pixel_is_what_lies_there_on_the_h_and_e(tmp_path, matrix):
    with registered(tmp_path, matrix) as he_image:
        for corner, shape in (((0, 0), TARGET), ((70, 33), (50, 91))):
            pixels, covered = he_image.warp(Grid(TARGET), corner, shape)
            from_px = origin(matrix, corner, shape)
            inside = ((from_px >= 0) & (from_px <= SHAPE[::-1])).all(axis=-1)
            np.testing.assert_array_equal(covered, inside)
            assert (pixels[~covered] == 255).all()
            deep = ((from_px >= 1) & (from_px <= np.array(SHAPE[::-1]) - 1)).all(axis=-1)
            found = pixels[deep][:, :2] * (np.array(SHAPE[::-1]) / 240)
            assert np.abs(found - from_px[deep]).max() < 1.6  # colours are whole numbers: 1.4 px
            assert np.abs((found - from_px[deep]).mean(axis=0)).max() < 0.15  # and not shifted by half a pixel
            assert (pixels[deep][:, 2] == 9).all()


def test_blocks_meet_without_a_seam(tmp_path):
    with registered(tmp_path, turned(33, 1.2)) as he_image:
        whole, _ = he_image.warp(Grid(TARGET), (0, 0), TARGET)
        parts = [he_image.warp(Grid(TARGET), (0, left), (TARGET[0], 40))[0] for left in range(0, TARGET[1], 40)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1).astype(int), whole.astype(int), atol=1)


@pytest.mark.parametrize(("step", "level"), [(1, 0), (2, 0), (3, 1), (5.2, 2), (40, 2)])
def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path, step, level):
    matrix = turned(10, 1.3)
    with registered(tmp_path, matrix, levels=3) as he_image:
        grid = Grid((int(TARGET[0] // step), int(TARGET[1] // step)), (step, step))
        assert he_image.level(grid) == level
        pixels, covered = he_image.warp(grid, (0, 0), grid.shape_px)
        centre = (grid.shape_px[0] // 2, grid.shape_px[1] // 2)
        there = np.linalg.inv(matrix) @ ((centre[1] + 0.5) * step, (centre[0] + 0.5) * step, 1)
        assert covered[centre]
        found = pixels[centre][:2] * (np.array(SHAPE[::-1]) / 240)
        np.testing.assert_allclose(found, there[:2], atol=3)


def test_a_shrunken_image_is_averaged_not_thinned(tmp_path):
    checks = np.indices(SHAPE).sum(axis=0) % 2 * 200
    tifffile.imwrite(tmp_path / "he.tif", np.repeat(checks[..., None], 3, 2).astype(np.uint8), photometric="rgb")
    with open_histology(tmp_path / "he.tif", tmp_path) as histology:
        pixels, _ = Registered(histology, np.eye(3)).warp(Grid((60, 80), (4, 4)), (0, 0), (60, 80))
    assert np.abs(pixels[5:-5, 5:-5].astype(int) - 100).max() < 8


def test_the_zarr_has_the_grid_of_dapi_and_the_share_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(he, "_BLOCK_PX", 128)
    matrix = turned(93, 0.9)
    with registered(tmp_path, matrix) as he_image:
        share = resample(he_image, Description("s", he.CHANNELS, TARGET, 0.2125), tmp_path / "he.zarr")
        whole, covered = he_image.warp(Grid(TARGET), (0, 0), TARGET)
        assert he_image.histology.n_decoded == 5 * 6  # each tile once: the cache holds them all
    stored = zarr.open_array(tmp_path / "he.zarr", path="0", mode="r")[:]
    assert share == pytest.approx(covered.mean())
    assert 0.3 < share < 0.9
    np.testing.assert_allclose(stored.astype(int), np.moveaxis(whole, 2, 0).astype(int), atol=1)
    labels = zarr.open_group(tmp_path / "he.zarr", mode="r").attrs["ome"]["omero"]["channels"]
    assert [item["label"] for item in labels] == ["red", "green", "blue"]


def test_a_cell_counts_as_covered_when_all_of_it_is(tmp_path):
    boxes = [
        (10, 20, 10, 20),  # within
        (-5, 4, 10, 20),  # reaches over the image's own edge, where there is nothing to be covered
        (240, 251, 10, 20),  # reaches over the edge of the H&E
        (260, 270, 10, 20),  # beside it
    ]
    cells = pd.DataFrame(boxes, columns=["x_min_um", "x_max_um", "y_min_um", "y_max_um"], dtype=float) * 0.2125
    shift = np.array([[1, 0, 250 - SHAPE[1]], [0, 1, 0], [0, 0, 1]], dtype=float)
    with registered(tmp_path, shift) as he_image:
        assert covered_cells(he_image, cells, TARGET, 0.2125).tolist() == [True, True, False, False]
