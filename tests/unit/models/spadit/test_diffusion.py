"""The schedule, and samples of Gaussians whose moments are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mistline.models.spadit.diffusion import Schedule, ddim, paired_noise, widening


def _exact(schedule: Schedule, mean: torch.Tensor, variance: torch.Tensor):
    """The best estimate of independent Gaussians from their noised values."""

    def predict(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        a, s = schedule.at(levels)
        return mean + a * variance / (a**2 * variance + s**2) * (x - a * mean)

    return predict


def test_levels_go_from_data_to_noise_and_keep_the_variance():
    schedule = Schedule(1000)
    torch.testing.assert_close(schedule.signal**2 + schedule.noise**2, torch.ones(1000, dtype=torch.float64))
    assert (schedule.signal.diff() < 0).all()
    assert schedule.signal[0] > 0.999
    assert schedule.signal[-1] < 1e-3
    middle = np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert float(schedule.signal[499] ** 2) == pytest.approx(middle, abs=1e-6)


def test_noised_values_have_the_variance_of_their_level():
    schedule, draw = Schedule(1000), torch.Generator().manual_seed(0)
    x, noise = (torch.randn(20_000, 2, generator=draw) for _ in range(2))
    for level in (10, 500, 990):
        seen = schedule.noised(3 * x, noise, torch.full((len(x),), level))
        expected = 9 * schedule.signal[level] ** 2 + schedule.noise[level] ** 2
        torch.testing.assert_close(seen.var(0).double(), expected.expand(2), rtol=0.05, atol=0)


def test_weights_are_the_ratio_of_signal_to_noise_up_to_a_cap():
    schedule = Schedule(1000)
    levels = torch.tensor([0, 500, 900])
    ratio = (schedule.signal[levels] / schedule.noise[levels]) ** 2
    torch.testing.assert_close(schedule.weight(levels, 5.0)[:, 0].double(), ratio.clamp(max=5.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_steps_begin_with_noise_alone(steps):
    chosen = Schedule(1000).steps(steps)
    assert chosen[0] == 999
    assert len(chosen) == steps
    assert sorted(set(chosen), reverse=True) == chosen


def test_ddim_draws_a_gaussian_from_the_exact_prediction():
    schedule = Schedule(1000)
    mean, variance = torch.tensor([2.0, -1.0]), torch.tensor([0.25, 1.5])
    noise = paired_noise(range(400), 16, 2).flatten(0, 1)
    drawn = ddim(schedule, _exact(schedule, mean, variance), noise, 250)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=1e-4)  # pairs: no Monte-Carlo error
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.08, atol=0)


def test_noise_belongs_to_the_item_and_comes_in_pairs():
    both = paired_noise([3, 8], 4, 5)
    assert torch.equal(paired_noise([8], 4, 5)[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert torch.equal(both[:, :2], -both[:, 2:])


def test_widening_makes_ninety_percent_lie_within():
    errors = np.random.default_rng(0).normal(size=50_000) * 3
    assert widening(errors) == pytest.approx(3, rel=0.03)
