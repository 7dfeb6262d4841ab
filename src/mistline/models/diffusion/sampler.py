"""Drawing latents: DDIM (Song et al. 2021, arXiv 2010.02502) with guidance, and its inversion.

A sampler knows noise levels and a function that predicts at one of them; what the prediction is made of (a condition,
guidance, merged tokens) is the function's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from mistline.config.generation import Sampling
from mistline.core.errors import ConfigError
from mistline.models.diffusion.merged import merging
from mistline.models.diffusion.network import Denoiser
from mistline.models.diffusion.noise import Level, Schedule

Predict = Callable[[Tensor, float], Tensor]  # latents [B, c, h, w] and step -> what the network predicts

_GUESSES = 3  # of a step of the inversion


def ddim(schedule: Schedule, predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Return latents [B, c, h, w] without noise.

    Args:
        schedule: the noise levels of training.
        predict: the network.
        x: [B, c, h, w] at the last level.
        steps: at most as many as there are levels.
    """
    for now, then in pairwise(schedule.levels(steps)):
        x = moved(schedule, predict(x, now.step), x, (now, then))
    return x


def invert(schedule: Schedule, predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Return the noise [B, c, h, w] from which `ddim` with as many steps draws latents.

    A step of DDIM is undone with the prediction at the noisier level, which is not known yet: the one at the level
    before stands in for it, and is then corrected by what the latents found so far predict (fixed-point iteration,
    as Pan et al. 2023, arXiv 2309.04907). Of all guesses a cell keeps the one that DDIM leads back best.

    Args:
        schedule: the noise levels of training.
        predict: the network.
        x: [B, c, h, w] without noise.
        steps: as `ddim` will take.
    """
    levels = schedule.levels(steps)[::-1]
    predicted = predict(x, levels[0].step)
    for now, then in pairwise(levels):
        guess = moved(schedule, predicted, x, (now, then))
        best, least = guess, torch.full((len(x), 1, 1, 1), torch.inf, device=x.device, dtype=x.dtype)
        for _ in range(_GUESSES):
            told = predict(guess, then.step)
            error = moved(schedule, told, guess, (then, now)) - x
            size = error.square().mean((1, 2, 3), keepdim=True)
            better = size < least
            best, predicted = torch.where(better, guess, best), torch.where(better, told, predicted)
            least = torch.minimum(size, least)
            guess = guess - error / schedule.kept(then, now)
        x = best
    return x


def moved(schedule: Schedule, predicted: Tensor, x: Tensor, levels: tuple[Level, Level]) -> Tensor:
    """Return latents of one level at another, as the prediction at the first says."""
    image, noise = schedule.split(x, predicted, levels[0])
    return levels[1].signal * image + levels[1].noise * noise


@contextmanager
def guided(net: Denoiser, tokens: Tensor, sampling: Sampling) -> Iterator[Predict]:
    """Yield the function that predicts for a batch of cells, guided (specs/spatia.md, eq. 10).

    The prediction is `e_u + w (e_c - e_u)`, of all cells with and without condition in one batch; with w = 1 it is
    that with condition alone, and nothing else is computed.

    Args:
        net: the network.
        tokens: [B, 4, token_width] of the cells.
        sampling: guidance, and the merging of tokens.

    Raises:
        ConfigError: tokens are to be merged by what guidance tells, and there is no guidance.
    """
    weight, merge = sampling.guidance, sampling.merge
    if weight == 1:
        if merge.way == "cfg" and merge.ratio > 0:
            what = "way cfg merges tokens by what guidance tells, and guidance 1 tells nothing"
            raise ConfigError("sampling.merge.way", what, "choose tomesd or none, or another guidance")
        with merging(net.unet, merge):
            yield lambda x, step: net.predict(x, step, tokens)
        return
    both = torch.cat([tokens, net.conditions.empty(len(tokens)).to(tokens)])
    with merging(net.unet, merge) as merged:

        def predict(x: Tensor, step: float) -> Tensor:
            conditional, unconditional = net.predict(torch.cat([x, x]), step, both).chunk(2)
            merged.observe(conditional, unconditional)
            return unconditional + weight * (conditional - unconditional)

        yield predict


def noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return [B, c, h, w] standard normal numbers, each cell's from a seed of its own.

    Args:
        seeds: [B].
        shape: (c, h, w).
    """
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])
