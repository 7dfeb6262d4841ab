"""The denoiser: a residual network over the genes of one cell. `B` cells, `D` genes, `W` width."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mistline.models.spadit.network import LEVEL_WIDTH, level_code


class Denoiser(nn.Module):
    """See the module.

    Args:
        n_genes: D.
        width: W.
        depth: blocks.
    """

    def __init__(self, n_genes: int, width: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Linear(n_genes, width)
        self.level = nn.Sequential(nn.Linear(LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.leave = nn.Linear(width, n_genes)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, levels: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
        """Return x_0 [B, D], as `spadit` makes it of signal and noise.

        Args:
            x: [B, D].
            levels: [B] between 0 and 1.
            at: a and s of these levels, each [B, 1].
        """
        c, h = self.level(level_code(levels)), self.enter(x)
        for block in self.blocks:
            h = block(h, c)
        return at[0] * x + at[1] * self.leave(functional.layer_norm(h, h.shape[-1:]))


class Block(nn.Module):
    """A gated feed-forward layer, modulated by the noise level (adaLN-zero).

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulated = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.modulated.weight)
        nn.init.zeros_(self.modulated.bias)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Return [B, W] of [B, W] and the code of the level [B, W]."""
        shift, scale, gate = self.modulated(functional.silu(c)).chunk(3, -1)
        return h + (1 + gate) * self.feed(functional.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift)
