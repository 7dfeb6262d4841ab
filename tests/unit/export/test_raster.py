from __future__ import annotations

import numpy as np
import pytest

from mistline.export.raster import LabelRaster
from mistline.xenium.outlines import Outlines

PIXEL_UM = 0.25


def outlines(*polygons_yx: list[tuple[float, float]], owner: list[int] | None = None) -> Outlines:
    """Polygons given in pixels, (row, column)."""
    start = np.concatenate([[0], np.cumsum([len(polygon) for polygon in polygons_yx])])
    yx = np.concatenate([np.array(polygon, dtype=float) for polygon in polygons_yx])
    return Outlines(np.array(owner or range(len(polygons_yx))), start, (yx[:, ::-1] * PIXEL_UM).astype(np.float32))


def draw(found: Outlines, shape=(40, 50), corner=(0, 0), step=1) -> np.ndarray:
    return LabelRaster(found, PIXEL_UM).window(corner, shape, step)


def holds(polygon: np.ndarray, y: float, x: float) -> bool:
    """Even-odd rule, one point at a time: the textbook way."""
    inside = False
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def blob(rng: np.random.Generator, centre: tuple[float, float], n: int = 13) -> list[tuple[float, float]]:
    """A star-shaped polygon, concave in places."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(2, 9, n)
    return [(centre[0] + r * np.sin(a), centre[1] + r * np.cos(a)) for a, r in zip(angle, radius, strict=True)]


def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre():
    rng = np.random.default_rng(0)
    polygons = [blob(rng, (10, 12)), blob(rng, (28, 36))]
    found = outlines(*polygons)
    image = draw(found)
    for label in (1, 2):
        part = slice(found.start[label - 1], found.start[label])
        polygon = found.xy_um[part, ::-1].astype(float) / PIXEL_UM
        expected = [[holds(polygon, y + 0.5, x + 0.5) for x in range(50)] for y in range(40)]
        assert ((image == label) == np.array(expected)).all()
    assert (image > 0).sum() > 100


def test_a_square_covers_its_pixels_and_no_more_whichever_way_it_turns():
    square = [(3, 5), (3, 9), (8, 9), (8, 5)]
    for polygon in (square, square[::-1], [*square, square[0]]):
        image = draw(outlines(polygon))
        assert image[3:8, 5:9].all()
        assert (image > 0).sum() == 20


def test_cells_at_a_shared_edge_leave_no_gap_and_share_no_pixel():
    left = [(1.3, 2.7), (1.3, 20.2), (30.9, 11.4), (30.9, 2.7)]
    right = [(1.3, 20.2), (1.3, 45.1), (30.9, 45.1), (30.9, 11.4)]
    alone = [draw(outlines(polygon)) > 0 for polygon in (left, right)]
    assert not (alone[0] & alone[1]).any()
    whole = [(1.3, 2.7), (1.3, 45.1), (30.9, 45.1), (30.9, 2.7)]
    assert ((alone[0] | alone[1]) == (draw(outlines(whole)) > 0)).all()


def test_a_window_is_a_part_of_the_whole():
    rng = np.random.default_rng(1)
    centres = rng.uniform(-5, 60, (40, 2))
    found = outlines(*(blob(rng, tuple(centre)) for centre in centres))
    whole = draw(found, (64, 64))
    assert len(np.unique(whole)) > 25
    for top, left in ((0, 0), (0, 32), (17, 5), (32, 32)):
        assert (draw(found, (32, 32), (top, left)) == whole[top : top + 32, left : left + 32]).all()


def test_a_coarse_level_shows_what_lies_at_the_centre_of_its_pixels():
    found = outlines([(8, 16), (8, 32), (24, 32), (24, 16)])
    assert (draw(found, (20, 25), step=2) > 0).sum() == 8 * 8
    assert (draw(found, (10, 12), step=4)[2:6, 4:8] == 1).all()


def test_the_cell_further_down_lies_on_top_and_nuclei_of_one_cell_share_its_label():
    under, over = [(2, 2), (2, 12), (12, 12), (12, 2)], [(8, 8), (8, 20), (20, 20), (20, 8)]
    image = draw(outlines(under, over, owner=[4, 9]))
    assert image[10, 10] == 10
    assert image[5, 5] == 5
    assert set(np.unique(draw(outlines(under, over, owner=[4, 4])))) == {0, 5}


@pytest.mark.parametrize("corner", [(100, 0), (0, 100)])
def test_where_no_cell_lies_there_is_no_label(corner):
    assert not draw(outlines([(2, 2), (2, 12), (12, 12)]), corner=corner).any()


def test_no_polygon_at_all():
    nothing = Outlines(np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.empty((0, 2), dtype=np.float32))
    assert not draw(nothing).any()
