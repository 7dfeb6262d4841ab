"""Filling in the genes of cells of which some are known (RePaint, Lugmayr et al. 2022, arXiv 2201.09865).

At every level the known genes are their own values with as much noise as the level has, and the others what the
sampler made of them. A step is taken again from new noise, so that the others come to agree with the known ones.

`B` cells, `S` samples, `D` genes, of which the first `K` are known.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from mistline.models.spadit.diffusion import Predict, Schedule


class Noise:
    """Standard normal numbers of cells, each cell's from a seed of its own.

    Args:
        seeds: [B].
        shape: (S, D).
    """

    def __init__(self, seeds: list[int], shape: tuple[int, int]) -> None:
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = shape

    def __call__(self) -> Tensor:
        """Return the next [B * S, D]."""
        return torch.cat([torch.randn(self._shape, generator=draw) for draw in self._draws])


def inpaint(schedule: Schedule, predict: Predict, known: Tensor, noise: Noise, steps: int, resamples: int) -> Tensor:
    """Return x_0 [B * S, D]; what it says of the known genes is the network's.

    Args:
        schedule: the levels of training.
        predict: the network.
        known: [B * S, K].
        noise: of the cells.
        steps: from noise to cells.
        resamples: times that each is taken.
    """
    n_known, x = known.shape[1], noise().to(known)
    for now, then in pairwise([*schedule.steps(steps), -1]):
        levels = torch.full((len(x),), now, dtype=torch.int64, device=x.device)
        for again in range(resamples):
            x[:, :n_known] = schedule.noised(known, noise().to(known)[:, :n_known], levels)
            told = predict(x, levels)
            if then < 0:
                return told
            lower = _step(schedule, x, told, noise().to(known), (now, then))
            x = lower if again == resamples - 1 else _back(schedule, lower, noise().to(known), (then, now))
    raise AssertionError("a sampler has at least one step")


def _step(schedule: Schedule, x: Tensor, told: Tensor, noise: Tensor, levels: tuple[int, int]) -> Tensor:
    """Return a draw at a lower level of what is at a higher one and said to be `told` without noise."""
    (signal, share), (lower_signal, lower_share) = (_at(schedule, level) for level in levels)
    kept = (signal / lower_signal) ** 2  # of the variance, from the lower level to the higher
    of_told = lower_signal * (1 - kept) / share**2
    of_x = kept**0.5 * lower_share**2 / share**2
    spread = lower_share * ((1 - kept) / share**2) ** 0.5
    return of_told * told + of_x * x + spread * noise


def _back(schedule: Schedule, x: Tensor, noise: Tensor, levels: tuple[int, int]) -> Tensor:
    """Return values of a lower level at a higher one."""
    kept = _at(schedule, levels[1])[0] / _at(schedule, levels[0])[0]
    return kept * x + (1 - kept**2) ** 0.5 * noise


def _at(schedule: Schedule, level: int) -> tuple[float, float]:
    return float(schedule.signal[level]), float(schedule.noise[level])
