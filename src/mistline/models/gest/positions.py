"""Places as integers, and their sinusoid code (specs/gest.md section 6, eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mistline.models.gest.params import BINS

_BASE = 10_000.0


def quantised(delta_um: Tensor, step_um: float) -> Tensor:
    """Return int64 [n, 2] in [0, 200] of places relative to the centre, micrometres; the centre is at 100."""
    return (BINS // 2 + delta_um / step_um).round().clamp(0, BINS).long()


def turned(delta_um: Tensor, window: Tensor, draw: torch.Generator) -> Tensor:
    """Return [M, 2] places of windows, each turned or mirrored as a whole in one of the 8 ways that leave a square.

    Args:
        delta_um: [M, 2] relative to the centres of their windows.
        window: int64 [M] number of the window of each.
        draw: where draws come from.
    """
    n = int(window[-1]) + 1 if len(window) else 0
    way = torch.randint(2, (n, 3), generator=draw, device=delta_um.device)[window]
    swapped = torch.where(way[:, 2:] == 1, delta_um.flip(1), delta_um)
    return swapped * (1 - 2 * way[:, :2])


def table(width: int) -> Tensor:
    """Return float32 [201, width / 2], the code of one coordinate.

    With d the width and i in [0, d / 4): columns 2i and 2i + 1 are sin and cos of x / 10000^(2i / d).
    """
    x = torch.arange(BINS + 1, dtype=torch.float64)[:, None]
    i = torch.arange(width // 4, dtype=torch.float64)
    angle = x / _BASE ** (2 * i / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


class Positions(nn.Module):
    """Codes of places; fixed.

    Args:
        width: D, a multiple of 4.
        step_um: length that one integer stands for.
        told: whether positions are told; else every code is ones.
    """

    codes: Tensor

    def __init__(self, width: int, step_um: float, told: bool) -> None:
        super().__init__()
        self.step_um, self.told = step_um, told
        self.register_buffer("codes", table(width), persistent=False)

    def forward(self, delta_um: Tensor) -> Tensor:
        """Return [n, D] of places [n, 2] relative to the centre: half of it for x, half for y."""
        if not self.told:
            return self.codes.new_ones(len(delta_um), 2 * self.codes.shape[1])
        return self.codes[quantised(delta_um, self.step_um)].flatten(1)
