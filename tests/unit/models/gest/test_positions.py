from __future__ import annotations

import math

import pytest
import torch

from mistline.models.gest.positions import Positions, quantised, turned


def test_equation_12():
    width, x, y = 96, 137, 4
    delta = torch.tensor([[(x - 100) * 3.0, (y - 100) * 3.0]])
    code = Positions(width, 3.0, True)(delta)[0]
    for i in range(width // 4):
        for value, first in ((x, 0), (y, width // 2)):
            angle = value / 10000 ** (2 * i / width)
            assert code[first + 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert code[first + 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_places_are_integers_around_100_and_end_at_the_border():
    delta = torch.tensor([[0.0, 0.0], [4.4, -4.6], [1e4, -1e4]])
    assert quantised(delta, 3.0).tolist() == [[100, 100], [101, 98], [200, 0]]


def test_without_positions_all_codes_are_ones():
    assert (Positions(8, 3.0, False)(torch.randn(5, 2)) == 1).all()


def test_a_window_is_turned_as_a_whole():
    draw = torch.Generator().manual_seed(0)
    delta = torch.randn(400, 2, generator=draw)
    window = torch.arange(100).repeat_interleave(4)
    found = turned(delta, window, draw)
    torch.testing.assert_close(found.norm(dim=1), delta.norm(dim=1))
    for before, after in zip(delta.view(100, 4, 2), found.view(100, 4, 2), strict=True):
        torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), atol=1e-5, rtol=1e-4)
    first = {tuple((found[i] / delta[i]).round(decimals=4).tolist()) for i in range(0, 400, 4)}
    assert {(1, 1), (1, -1), (-1, 1), (-1, -1)} < first  # and those whose axes were swapped
