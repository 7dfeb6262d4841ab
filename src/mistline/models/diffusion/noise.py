"""Noise levels of the diffusion (specs/spatia.md section 9) and what is predicted at each.

`x_t = a_t x_0 + s_t e` with `a_t^2 + s_t^2 = 1`; `v = a_t e - s_t x_0` (Salimans and Ho 2022, arXiv 2202.00512).
Betas are scaled-linear. With v the square roots are shifted and scaled so that the last level is noise alone (zero
terminal SNR, Lin et al. 2024, arXiv 2305.08891, algorithm 1), and sampling begins where training did. With epsilon
they stay as they are: at a level of noise alone, noise says nothing of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["v", "epsilon"]


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level.

    Args:
        step: that the network is told; the first one for an image without noise, which it never sees.
        signal: a.
        noise: s.
    """

    step: int
    signal: float
    noise: float


class Schedule:
    """The noise levels of training, in float64.

    Args:
        n: number of levels, T.
        beta_start: of the first.
        beta_end: of the last.
        prediction: what the network predicts.
    """

    def __init__(self, n: int, beta_start: float, beta_end: float, prediction: Prediction) -> None:
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, n, dtype=torch.float64) ** 2
        signal = torch.cumprod(1 - betas, 0).sqrt()
        if prediction == "v":
            first, last = signal[0].clone(), signal[-1].clone()
            signal = (signal - last) * (first / (first - last))
        self.prediction = prediction
        self.signal = signal
        self.noise = (1 - signal**2).sqrt()

    def __len__(self) -> int:
        return len(self.signal)

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return [B, c, h, w] latents at the levels t, int64 [B]."""
        signal, share = self._at(t, x)
        return signal * x + share * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return [B, c, h, w], what the network is to predict."""
        if self.prediction == "epsilon":
            return noise
        signal, share = self._at(t, x)
        return signal * noise - share * x

    def split(self, x: Tensor, predicted: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return (image, noise), each [B, c, h, w], that a prediction says latents are made of."""
        if self.prediction == "epsilon":
            return (x - level.noise * predicted) / level.signal, predicted
        return level.signal * x - level.noise * predicted, level.signal * predicted + level.noise * x

    def kept(self, now: Level, then: Level) -> float:
        """Return the share of latents at one level in those that DDIM makes of them at another, prediction aside."""
        if self.prediction == "epsilon":
            return then.signal / now.signal
        return then.signal * now.signal + then.noise * now.noise

    def level(self, step: int) -> Level:
        """Return a level of training."""
        return Level(step, float(self.signal[step]), float(self.noise[step]))

    def levels(self, steps: int) -> list[Level]:
        """Return the levels that a sampler of so many steps goes through, from noise to the image without noise.

        They are equally far apart and begin with the last one ("trailing", Lin et al. 2024, section 3.3).
        """
        n = len(self)
        chosen = [round(n * (steps - number) / steps) - 1 for number in range(min(steps, n))]
        return [*(self.level(max(step, 0)) for step in chosen), Level(0, 1.0, 0.0)]

    def _at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, s), each [B, 1, 1, 1], in the latents' kind of number."""
        found = (values.to(t.device)[t].to(like)[:, None, None, None] for values in (self.signal, self.noise))
        return next(found), next(found)
