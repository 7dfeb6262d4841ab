from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mistline.core.geometry import px_to_um, tile_of, um_to_px

micrometres = st.floats(0, 1e5, allow_nan=False)


def test_x_becomes_the_column() -> None:
    assert um_to_px(np.array([[21.25, 2.125]]), 0.2125).tolist() == [[10.0, 100.0]]


@given(micrometres, micrometres, st.floats(0.05, 5))
def test_round_trip(x: float, y: float, pixel_size_um: float) -> None:
    xy_um = np.array([x, y])
    np.testing.assert_allclose(px_to_um(um_to_px(xy_um, pixel_size_um), pixel_size_um), xy_um, rtol=1e-12, atol=1e-9)


def test_a_tile_holds_its_first_pixel_and_not_the_next_tile_s() -> None:
    yx_px = np.array([[0.0, 255.999], [256.0, 511.0]])
    assert tile_of(yx_px, 256).tolist() == [[0, 0], [1, 1]]
