from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistline.config.image import Image
from mistline.core.errors import InputError
from mistline.mist.window import Histogram, lookup_table, measure

PIXELS = hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=30))


def _histogram(pixels: np.ndarray) -> Histogram:
    histogram = Histogram(pixels.dtype)
    for row in pixels:  # piece by piece
        histogram.add(row)
    return histogram


@given(PIXELS, st.floats(0, 100))
def test_percentiles_are_those_of_all_pixels(pixels, percent):
    found = _histogram(pixels).percentile(percent)
    assert found == pytest.approx(np.percentile(pixels, percent), rel=1e-9, abs=1e-9)


@given(PIXELS)
def test_extremes_and_total_are_exact(pixels):
    histogram = _histogram(pixels)
    assert histogram.extremes == (pixels.min(), pixels.max())
    assert histogram.counts.sum() == pixels.size


def test_minmax_is_the_published_formula_to_the_bit():
    rng = np.random.default_rng(0)
    for _ in range(200):
        low, high = sorted(rng.choice(65_536, 2, replace=False).tolist())
        image = np.arange(low, high + 1, dtype=np.uint16).astype(np.float64)
        published = ((image - image.min()) / (image.max() - image.min()) * 255).astype(np.uint8)
        np.testing.assert_array_equal(lookup_table(low, high, 65_536)[low : high + 1], published)


def test_the_table_clips_and_never_falls():
    table = lookup_table(100.5, 900.25, 65_536)
    assert table[:101].max() == 0
    assert table[901:].min() == 255
    assert (np.diff(table.astype(int)) >= 0).all()


def test_modes_give_percentiles_or_extremes():
    pixels = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    histogram = _histogram(pixels)
    assert measure(histogram, Image(window="minmax"), "s") == (0.0, 9999.0)
    low, high = measure(histogram, Image(low_percentile=10, high_percentile=90), "s")
    assert (low, high) == (pytest.approx(999.9), pytest.approx(8999.1))


@pytest.mark.parametrize("mode", ["minmax", "percentile"])
def test_a_constant_channel_is_refused(mode):
    with pytest.raises(InputError, match="s, DAPI: every pixel has the value 7"):
        measure(_histogram(np.full((9, 9), 7, np.uint16)), Image(window=mode), "s, DAPI")


def test_a_channel_with_one_bright_pixel_needs_minmax():
    pixels = np.zeros((100, 100), np.uint16)
    pixels[5, 5] = 900
    with pytest.raises(InputError, match="minmax"):
        measure(_histogram(pixels), Image(), "s")
    assert measure(_histogram(pixels), Image(window="minmax"), "s") == (0.0, 900.0)
