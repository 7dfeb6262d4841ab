from __future__ import annotations

import numpy as np
import pytest

from mistline.xenium.orientation import MIN_CELLS, judge

SHAPE = (400, 600)


def _slide(n=120, seed=0):
    """Bright discs on a gradient that grows with the column."""
    rng = np.random.default_rng(seed)
    yx_px = rng.uniform(10, 390, (n, 2))
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = rng.integers(0, 50, SHAPE) + col
    for y, x in yx_px:
        image[(row - y) ** 2 + (col - x) ** 2 < 40] += 300
    return image.astype(np.uint16), yx_px


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_both_readings_are_told_apart_at_any_resolution(step, seed):
    image, yx_px = _slide(seed=seed)
    assert judge(image[::step, ::step], SHAPE, yx_px) == "as stated"
    assert judge(image[::step, ::step], SHAPE, yx_px[:, ::-1]) == "transposed"


def test_a_gradient_alone_proves_nothing():
    _, yx_px = _slide()
    low_left = yx_px * [1.0, 0.5]  # below the diagonal: the transposed places lie further up the gradient
    gradient = np.broadcast_to(np.arange(SHAPE[1], dtype=np.uint16), SHAPE)
    assert judge(gradient, SHAPE, low_left) == "inconclusive"


@pytest.mark.parametrize("n", [0, MIN_CELLS - 1])
def test_few_cells_prove_nothing(n):
    image, yx_px = _slide()
    assert judge(image, SHAPE, yx_px[:n]) == "inconclusive"


def test_points_outside_the_image_do_not_count():
    image, yx_px = _slide()
    assert judge(image, SHAPE, yx_px + 1000) == "inconclusive"


def test_empty_image_is_inconclusive():
    assert judge(np.zeros(SHAPE, np.uint16), SHAPE, _slide()[1]) == "inconclusive"
