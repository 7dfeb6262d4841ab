"""Noise levels, the loss and the sampler: `x_t = a_t x_0 + s_t e`, and the network tells x_0.

Cosine schedule (Nichol and Dhariwal 2021, arXiv 2102.09672), min-SNR weights (Hang et al. 2023, arXiv 2303.09556),
DDIM (Song et al. 2021, arXiv 2010.02502). `B` items, `p` numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]  # x_t [B, p] and levels int64 [B] -> x_0 [B, p]

_OFFSET, _LARGEST_BETA = 0.008, 0.999
_NOMINAL, _Z = 0.9, 1.645  # share of normal values that lie within so many standard deviations


class Schedule:
    """The noise levels of training.

    Args:
        n: how many, T.
    """

    def __init__(self, n: int) -> None:
        at = torch.arange(n + 1, dtype=torch.float64) / n
        left = torch.cos((at + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
        betas = (1 - left[1:] / left[:-1]).clamp(max=_LARGEST_BETA)
        kept = torch.cumprod(1 - betas, 0)
        self.signal, self.noise = kept.sqrt(), (1 - kept).sqrt()

    def __len__(self) -> int:
        return len(self.signal)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, s), each float32 [B, 1], at levels int64 [B]."""
        signal, noise = (values.to(t.device)[t].float()[:, None] for values in (self.signal, self.noise))
        return signal, noise

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t [B, p]."""
        signal, share = self.at(t)
        return signal * x + share * noise

    def weight(self, t: Tensor, largest: float) -> Tensor:
        """Return min(SNR, largest), [B, 1]: what an error of x_0 weighs at a level."""
        signal, noise = self.at(t)
        return (signal / noise).square().clamp(max=largest)

    def steps(self, n: int) -> list[int]:
        """Return the levels that a sampler of n steps goes through, equally far apart, the noisiest first."""
        return [round(len(self) * (n - number) / n) - 1 for number in range(n)]


def ddim(schedule: Schedule, predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Return x_0 [B, p] drawn from noise x [B, p]."""
    for now, then in pairwise([*schedule.steps(steps), -1]):
        told = predict(x, torch.full((len(x),), now, dtype=torch.int64, device=x.device))
        if then < 0:
            return told
        signal, share = float(schedule.signal[now]), float(schedule.noise[now])
        noise = (x - signal * told) / share
        x = float(schedule.signal[then]) * told + float(schedule.noise[then]) * noise
    return x


def paired_noise(seeds: Sequence[int], samples: int, width: int) -> Tensor:
    """Return [items, samples, p] standard normal numbers, each item's from a seed of its own.

    The second half is the first with the other sign: the mean of samples then has no error in so far as the sampler
    is linear, and few samples tell it.
    """
    found = []
    for seed in seeds:
        half = torch.randn(samples // 2, width, generator=torch.Generator().manual_seed(seed))
        found.append(torch.cat([half, -half]))
    return torch.stack(found)


def widening(ratios: NDArray[np.floating]) -> float:
    """Return what the spread of samples is multiplied with, for 90 % of errors to be within 1.645 of it.

    Args:
        ratios: of errors to the spread, of values that were not fitted.
    """
    return float(np.quantile(np.abs(ratios), _NOMINAL)) / _Z
