"""Orders: what each rule is like, by the statistics of section 5."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr

from mistline.models.gest.serialise import Serialisation, arranged, distances

N, WINDOWS, SIDE = 300, 40, 600.0


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tissue() -> tuple[torch.Tensor, torch.Tensor]:
    delta = SIDE * (torch.rand(N * WINDOWS, 2, generator=_draw(1)) - 0.5)
    return delta, torch.repeat_interleave(torch.arange(WINDOWS), N)


@pytest.mark.parametrize(
    ("rule", "power", "expected"),
    [
        ("paper_eq5", 1.0, -0.34),  # far ones first, and hardly so
        ("random", 1.0, 0.0),
        ("inverse_power", 1.0, 0.35),
        ("inverse_power", 4.0, 0.78),
        ("jitter", 1.0, 0.98),
        ("sorted", 1.0, 1.0),
    ],
)
def test_how_closely_each_rule_follows_the_distance(rule, power, expected):
    delta, window = _tissue()
    distance = distances(delta, torch.zeros(len(delta), dtype=torch.int64), SIDE)
    key = Serialisation(rule, power).keys(distance, torch.full((len(delta),), 30.0), _draw())
    order = arranged(key, window)
    found = [spearmanr(range(N), distance[order[i * N : (i + 1) * N]]).statistic for i in range(WINDOWS)]
    assert sum(found) / WINDOWS == pytest.approx(expected, abs=0.03)


def test_windows_stay_together_and_the_order_is_the_draw_s():
    delta, window = _tissue()
    rule = Serialisation("jitter", random_share=0.5)
    given = (delta, window, SIDE, torch.full((WINDOWS,), 30.0))
    one, two, other = rule(*given, _draw(3)), rule(*given, _draw(3)), rule(*given, _draw(4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(one.sort().values, torch.arange(len(delta)))
    assert torch.equal(window[one], window)


def test_a_share_of_the_windows_is_random_and_all_corners_are_anchors():
    delta, window = _tissue()
    order = Serialisation("sorted", random_share=0.25)(delta, window, SIDE, torch.zeros(WINDOWS), _draw())
    follows = torch.zeros(WINDOWS, 4)
    for i in range(WINDOWS):
        own = delta[order[i * N : (i + 1) * N]]
        for corner in range(4):
            distance = distances(own, torch.full((N,), corner), SIDE)
            follows[i, corner] = spearmanr(range(N), distance).statistic
    is_sorted = follows.max(dim=1).values > 0.999
    assert 0.5 < is_sorted.float().mean() < 0.95
    assert len(follows[is_sorted].argmax(dim=1).unique()) == 4


@pytest.mark.parametrize("rule", ["paper_eq5", "inverse_power", "jitter"])
def test_cells_at_the_anchor_or_at_one_place_are_ordered_too(rule):
    delta = torch.tensor([[-50.0, -50.0]] * 3 + [[50.0, 50.0]] * 3)
    keys = Serialisation(rule).keys(distances(delta, torch.zeros(6, dtype=torch.int64), 100.0), torch.ones(6), _draw())
    assert torch.isfinite(keys).all()
