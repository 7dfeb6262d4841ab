"""Plain features of a crop: what it looks like, how large it is, how bright, how textured.

`B` cells, `C` channels, `S` side in pixels. Every feature is a function of one cell alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

THUMBNAIL = 16
N_HARMONICS = 4
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def groups(image: Tensor, side_um: Tensor, window_um: float) -> list[Tensor]:
    """Return groups of features, each [B, F_i] float32.

    Args:
        image: [B, C, S, S] uint8, the crop resized to S pixels whatever its size.
        side_um: [B] side of the crop.
        window_um: side of the view at a common scale.
    """
    light = image.float() / 255  # [B, C, S, S]
    return [
        functional.adaptive_avg_pool2d(light, THUMBNAIL).flatten(1),
        at_common_scale(light, side_um, window_um).flatten(1),
        intensities(light),
        gradients(light),
        torch.log(side_um.float())[:, None],
    ]


def at_common_scale(light: Tensor, side_um: Tensor, window_um: float) -> Tensor:
    """Show every cell in a window of the same physical side, zero outside its crop.

    Args:
        light: [B, C, S, S] in 0..1.
        side_um: [B].
        window_um: side of the window.

    Returns:
        [B, C, T, T], T = `THUMBNAIL`.
    """
    ratio = (window_um / side_um).to(light)  # [B]
    theta = torch.zeros(len(light), 2, 3, dtype=light.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = ratio
    size = [len(light), light.shape[1], THUMBNAIL, THUMBNAIL]
    grid = functional.affine_grid(theta, size, align_corners=False)  # [B, T, T, 2]
    return functional.grid_sample(light, grid, padding_mode="zeros", align_corners=False)


def intensities(light: Tensor) -> Tensor:
    """Return [B, C * 7]: quantiles, mean and standard deviation of each channel."""
    flat = light.flatten(2)  # [B, C, S * S]
    levels = torch.quantile(flat, torch.tensor(_QUANTILES), dim=2).permute(1, 2, 0)  # [B, C, 5]
    spread = torch.stack([flat.mean(dim=2), flat.std(dim=2)], dim=2)
    return torch.cat([levels, spread], dim=2).flatten(1)


def gradients(light: Tensor) -> Tensor:
    """Return [B, C * 10]: orientation harmonics weighted by magnitude, mean magnitude, roughness.

    Harmonic k is the mean of exp(2 i k angle), as real and imaginary part: a histogram of orientations
    without the jumps at its edges, where a rounding error would move a pixel to another bin.
    """
    down = light[..., 2:, 1:-1] - light[..., :-2, 1:-1]
    right = light[..., 1:-1, 2:] - light[..., 1:-1, :-2]
    square = down**2 + right**2  # [B, C, S - 2, S - 2]
    size = torch.sqrt(square)
    total = size.sum(dim=(2, 3)) + 1e-6  # [B, C]
    # exp(2 i angle) in real numbers: complex kernels round differently at the end of a batch.
    cosine, sine = (right**2 - down**2) / (square + 1e-12), 2 * right * down / (square + 1e-12)
    found, real, imaginary = [], cosine, sine
    for _ in range(N_HARMONICS):
        found.extend([(part * size).sum(dim=(2, 3)) / total for part in (real, imaginary)])
        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
    curve = light[..., 2:, 1:-1] + light[..., :-2, 1:-1] + light[..., 1:-1, 2:] + light[..., 1:-1, :-2]
    rough = (curve - 4 * light[..., 1:-1, 1:-1]).flatten(2).std(dim=2)
    return torch.stack([*found, size.mean(dim=(2, 3)), rough], dim=2).flatten(1)
