from __future__ import annotations

import math

import pytest

from mistline.train.schedule import share


def test_rise_and_half_a_cosine_by_hand():
    found = [share(step, 12, 4, 0.1) for step in range(13)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[8] == pytest.approx(0.55)  # halfway
    assert found[10] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 0.75)) / 2)
    assert found[12] == pytest.approx(0.1)


def test_a_training_as_short_as_its_warm_up_only_rises():
    assert [share(step, 3, 4, 0.0) for step in range(3)] == [0.25, 0.5, 0.75]
    assert share(0, 1, 0, 0.0) == 1.0
