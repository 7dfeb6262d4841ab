"""Images as sequences of patches, their places, and which of them are seen.

`B` images, `C` channels, `S` side in pixels, `P` side of a patch, `N` = (S / P)^2 patches in reading order,
`K` of them kept, `D` width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def patchify(image: Tensor, patch: int) -> Tensor:
    """Return [B, N, P * P * C] of [B, C, S, S]; pixel after pixel, the channels of one side by side (as ViT-MAE)."""
    B, C, S, _ = image.shape
    side = S // patch
    cut = image.reshape(B, C, side, patch, side, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(B, side * side, patch * patch * C)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Return [B, C, S, S] of [B, N, P * P * C]."""
    B, N, values = patches.shape
    side, C = round(N**0.5), values // patch**2
    cut = patches.reshape(B, side, side, patch, patch, C)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(B, C, side * patch, side * patch)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Return [B, K, D], the rows of [B, N, D] that [B, K] names."""
    return rows.gather(1, index[:, :, None].expand(-1, -1, rows.shape[2]))


def draw_keep(n_images: int, n_patches: int, mask_ratio: float, draw: torch.Generator) -> Tensor | None:
    """Draw the patches that an encoder sees in training, for every image by itself.

    Args:
        n_images: B.
        n_patches: N.
        mask_ratio: share that is hidden; 0 hides nothing and draws nothing.
        draw: where the numbers come from, on the device of the result.

    Returns:
        int64 [B, K], ascending; None for all.
    """
    if mask_ratio == 0:
        return None
    n_kept = max(1, int(n_patches * (1 - mask_ratio)))
    noise = torch.rand(n_images, n_patches, generator=draw, device=draw.device)
    return noise.argsort(dim=1)[:, :n_kept].sort(dim=1).values


def complement(keep: Tensor, n_patches: int) -> Tensor:
    """Return [B, N - K], ascending: the patches that [B, K] leaves out."""
    is_kept = keep.new_zeros(len(keep), n_patches).scatter_(1, keep, 1)
    return is_kept.argsort(dim=1, stable=True)[:, : n_patches - keep.shape[1]]


def positions(side: int, width: int) -> Tensor:
    """Return float32 [1 + side^2, D]: sines and cosines of column, then of row; zeros for the class token.

    The first half of the width tells the column and the second the row, at D / 4 wavelengths from 2 pi to
    10000 * 2 pi: the fixed positions of ViT-MAE (He et al. 2022), so that its weights fit.
    """
    rate = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))  # [D / 4]
    row, column = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    angles = [place.reshape(-1, 1) * rate for place in (column, row)]  # each [side^2, D / 4]
    told = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), told]).float()
