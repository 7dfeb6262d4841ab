"""What merging costs in quality: a small U-Net that learns to draw ellipses from their size, brightness and shape.

The condition tells an ellipse wholly, so that each drawn image has one truth. Images of 32 x 32 px become latents of
4 x 16 x 16 by moving pixels into channels, which loses nothing: only the U-Net and its merging are judged. Every way
starts from the same noise. PSNR and SSIM (Gaussian, sigma 1.5) on [0, 1]; intervals are bootstraps over images, those
of differences paired. One thread, under four minutes of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.nn import functional

from mistline.config.generation import Merge
from mistline.models.diffusion.merged import Merging, bipartite, merging
from mistline.models.diffusion.unet import TINY, build
from tests.benchmarks.bench import Bench, Gate

_SIDE, _TOKEN_WIDTH, _N_FEATURES = 32, 32, 3
_STEPS, _BATCH, _LEARNING_RATE, _DROPOUT = 250, 16, 2e-3, 0.1
_N_TESTED, _SAMPLER_STEPS, _GUIDANCE = 48, 12, 1.5
_RATIOS = (0.25, 0.5, 0.75)
_N_DRAWS = 2000  # of a bootstrap


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates: half of the tokens may cost no more than the interval of what is not merged."""
    del bench  # nothing here depends on a slide or on rounds
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _compare(_trained())
    finally:
        torch.set_num_threads(before)


def _compare(painter: Painter) -> Iterator[Gate]:
    features, truth = _ellipses(_N_TESTED, torch.Generator().manual_seed(1))
    ways: dict[str, AbstractContextManager[Merging | None]] = {}
    for ratio in _RATIOS:
        ways[f"guidance, {ratio:.0%}"] = merging(painter.unet, Merge(way="cfg", ratio=ratio))
    for ratio in _RATIOS:
        ways[f"tomesd, {ratio:.0%}"] = bipartite(painter.unet, ratio)
    for ratio in _RATIOS:
        ways[f"tomesd whole blocks, {ratio:.0%}"] = bipartite(painter.unet, ratio, whole=True)
    plain = _judged(painter.draw(features, merging(painter.unet, Merge())), truth)
    turned = _judged(painter.draw(features.roll(1, 0), merging(painter.unet, Merge())), truth)
    for (metric, unit), values, control in zip((("PSNR", "dB"), ("SSIM", "")), plain, turned, strict=True):
        low, high = _interval(values)
        note = f"{low:.4g} to {high:.4g}; with another image's condition {control.mean():.4g}"
        yield Gate(f"{metric}, not merged", unit, values.mean(), note=note)
    for name, way in ways.items():
        found = _judged(painter.draw(features, way), truth)
        for (metric, unit), ours, values in zip((("PSNR", "dB"), ("SSIM", "")), found, plain, strict=True):
            low, high = _interval(values - ours)
            room = values.mean() - _interval(values)[0] if name == "guidance, 50%" else None
            note = f"paired {low:.2g} to {high:.2g}"
            yield Gate(f"{metric} lost, {name}", unit, (values - ours).mean(), limit=room, note=note)


def _ellipses(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return features [n, 3] of unit variance and images [n, 1, 32, 32] from 0 to 1 that follow from them."""
    told = torch.rand(n, _N_FEATURES, generator=draw)
    size, bright, long = told.T[:, :, None, None]
    y, x = torch.meshgrid(*(2 * (torch.linspace(-1, 1, _SIDE),)), indexing="ij")
    radius, stretch = 0.25 + 0.4 * size, 1 + 0.5 * long
    distance = ((x / stretch).square() + (y * stretch).square()).sqrt() / radius
    spots = 0.85 + 0.15 * torch.cos(9 * x / radius) * torch.cos(9 * y / radius)  # something finer than an edge
    image = 0.05 + (0.3 + 0.6 * bright) * spots * torch.sigmoid((1 - distance) * 12 * radius)
    return 12**0.5 * (told - 0.5), image[:, None]


class Painter(nn.Module):
    """A U-Net and what it needs to draw: tokens of the features, and the schedule x = cos(a) x0 + sin(a) noise."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = build(TINY, 4, _TOKEN_WIDTH)
        self.tokens = nn.Linear(_N_FEATURES, 4 * _TOKEN_WIDTH)
        self.absent = nn.Parameter(torch.zeros(4 * _TOKEN_WIDTH))

    def forward(self, latents: Tensor, angle: Tensor, tokens: Tensor) -> Tensor:
        """Return v [B, 4, 16, 16] = cos(a) noise - sin(a) x0 of latents [B, 4, 16, 16] at angles [B]."""
        at = angle * (1000 / (math.pi / 2))
        told = {"encoder_hidden_states": tokens.unflatten(1, (4, _TOKEN_WIDTH)), "class_labels": tokens}
        return self.unet(latents, at, **told).sample

    def loss(self, features: Tensor, images: Tensor, draw: torch.Generator) -> Tensor:
        """Return the mean squared error of v."""
        clean = functional.pixel_unshuffle(images * 4 - 1, 2)
        angle = torch.rand(len(clean), generator=draw) * (math.pi / 2)
        noise = torch.randn(clean.shape, generator=draw)
        cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
        has = torch.rand(len(clean), 1, generator=draw) >= _DROPOUT
        tokens = torch.where(has, self.tokens(features), self.absent)
        return functional.mse_loss(self(cos * clean + sin * noise, angle, tokens), cos * noise - sin * clean)

    @torch.no_grad()
    def draw(self, features: Tensor, way: AbstractContextManager[Merging | None]) -> Tensor:
        """Return images [n, 1, 32, 32], drawn with guidance inside `way`, always from the same noise."""
        latents = torch.randn(len(features), 4, _SIDE // 2, _SIDE // 2, generator=torch.Generator().manual_seed(2))
        tokens = torch.cat([self.tokens(features), self.absent.expand(len(features), -1)])
        angles = torch.linspace(math.pi / 2, 0, _SAMPLER_STEPS + 1)
        with way as handle:
            for angle, after in itertools.pairwise(angles):
                both = self(torch.cat([latents, latents]), angle.expand(2 * len(latents)), tokens)
                conditional, unconditional = both.chunk(2)
                if handle is not None:
                    handle.observe(conditional, unconditional)
                v = unconditional + _GUIDANCE * (conditional - unconditional)
                clean, noise = angle.cos() * latents - angle.sin() * v, angle.sin() * latents + angle.cos() * v
                latents = after.cos() * clean + after.sin() * noise
        return ((functional.pixel_shuffle(latents, 2) + 1) / 4).clamp(0, 1)


def _trained() -> Painter:
    torch.manual_seed(0)
    painter, draw = Painter(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(painter.parameters(), lr=_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, _STEPS, pct_start=0.1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        painter.loss(*_ellipses(_BATCH, draw), draw).backward()
        nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return painter.eval()


def _judged(drawn: Tensor, truth: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PSNR and SSIM, [n] each."""
    pairs = [(one[0].numpy(), other[0].numpy()) for one, other in zip(truth, drawn, strict=True)]
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    psnr = [peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in pairs]
    return np.array(psnr), np.array([structural_similarity(one, other, **settings) for one, other in pairs])


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the central 95 % of bootstrapped means."""
    chosen = np.random.default_rng(0).integers(len(values), size=(_N_DRAWS, len(values)))
    low, high = np.quantile(values[chosen].mean(1), (0.025, 0.975))
    return float(low), float(high)
