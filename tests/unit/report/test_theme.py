"""Scale bars, thumbnails and colours."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mistline.report.plots import theme
from mistline.report.plots.tissue import Overview, morphology


@pytest.mark.parametrize(("limit", "length"), [(54.4, 50), (217.6, 200), (9.99, 5), (1, 1), (0.3, 0.2), (1999, 1000)])
def test_round_lengths(limit, length):
    assert theme.round_length(limit) == pytest.approx(length)


def test_lengths_carry_their_unit():
    assert (theme.format_length(50), theme.format_length(2000)) == ("50 µm", "2 mm")


def test_the_bar_is_as_long_as_it_says():
    axes = Figure().add_subplot()
    axes.set(xlim=(0, 800), ylim=(600, 0))
    length_um = theme.scale_bar(axes, theme.Corner(0, 600, 800), 0.5, colour="w")
    drawn = axes.lines[-1].get_xdata()
    assert (drawn[1] - drawn[0]) * 0.5 == pytest.approx(length_um) == 100
    assert axes.texts[0].get_text() == "100 µm"


def test_the_bar_of_a_picture_follows_its_pixel_size():
    overview = Overview(np.zeros((100, 400), dtype=np.uint8), um_per_px=2.0)
    figure = morphology(theme.LIGHTBOX, overview)
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 800)
    assert axes.get_ylim() == (200, 0)
    width, height = figure.get_size_inches()
    assert width / height == pytest.approx(4)


def test_thumbnails_keep_their_budget():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8))
    for budget in (300_000, 60_000, 15_000):
        assert len(theme.thumbnail(noise, budget)) * 4 / 3 <= budget


def test_a_model_has_one_colour_whatever_stands_beside_it():
    both = theme.colours(["b", "a", "b"])
    assert both == theme.colours(["a", "b"])
    assert both["a"] != both["b"]
