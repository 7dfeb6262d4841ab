"""The denoiser: a transformer over the patches of one gene's variable, told what single cells and other genes say.

`B` genes, `p` numbers of a variable, `P` patches, `M` meta-cells, `K` neighbours, `W` width of a token. A gene's tokens
read each other and their own condition, never another gene of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

LEVEL_WIDTH = 128  # of the code of a noise level
_LONGEST = 10_000.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Shape of the network.

    Args:
        variable: p.
        profile: M.
        patches: P, at most.
        width: W.
        depth: blocks.
        heads: of attention.
    """

    variable: int
    profile: int
    patches: int
    width: int
    depth: int
    heads: int


@dataclass(frozen=True, slots=True)
class Told:
    """The condition of some genes.

    Args:
        base: [B, p] the estimate that the variable is the rest of, standardised.
        profile: [B, M] of the gene.
        near: [B, K, p] variables of its neighbours.
        near_profile: [B, K, M].
        likeness: [B, K] correlations with them.
    """

    base: Tensor
    profile: Tensor
    near: Tensor
    near_profile: Tensor
    likeness: Tensor

    def take(self, rows: Tensor) -> Told:
        """Return that of some genes, int64 [b]."""
        return Told(*(value[rows] for value in self._values()))

    def to(self, device: str | torch.device) -> Told:
        """Return the same on a device."""
        return Told(*(value.to(device) for value in self._values()))

    def _values(self) -> tuple[Tensor, ...]:
        return self.base, self.profile, self.near, self.near_profile, self.likeness


class Patches(nn.Module):
    """Cuts vectors into patches, the last filled up with zeros.

    Args:
        length: of a vector.
        patches: how many, at most.
    """

    def __init__(self, length: int, patches: int) -> None:
        super().__init__()
        self.length, self.size = length, math.ceil(length / patches)
        self.n = math.ceil(length / self.size)

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., n, size] of [..., length]."""
        return functional.pad(values, (0, self.n * self.size - self.length)).unflatten(-1, (self.n, self.size))

    def joined(self, patches: Tensor) -> Tensor:
        """Return [..., length] of [..., n, size]."""
        return patches.flatten(-2)[..., : self.length]


class Denoiser(nn.Module):
    """See the module.

    Args:
        sizes: its shape.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.patches, self.profile_patches = (
            Patches(length, sizes.patches) for length in (sizes.variable, sizes.profile)
        )
        self.enter = nn.Linear(2 * self.patches.size, width)
        self.place = nn.Parameter(torch.randn(self.patches.n, width) * 0.02)
        self.profile = nn.Linear(self.profile_patches.size, width)
        self.profile_place = nn.Parameter(torch.randn(self.profile_patches.n, width) * 0.02)
        self.near = nn.Linear(sizes.variable, width)
        self.near_profile = nn.Linear(sizes.profile, width)
        self.near_likeness = nn.Linear(1, width)
        self.pooled = nn.Linear(sizes.profile, width)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.level = nn.Sequential(nn.Linear(LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.depth))
        self.last = Modulated(width, 1)
        self.leave = nn.Linear(width, self.patches.size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def hidden(self, told: Told, hides: Tensor) -> Told:
        """Return a condition without some patches of the neighbours' variables, bool [B, K, P]."""
        seen = self.patches(told.near).masked_fill(hides[..., None], 0.0)
        return Told(told.base, told.profile, self.patches.joined(seen), told.near_profile, told.likeness)

    def forward(
        self, x: Tensor, levels: Tensor, at: tuple[Tensor, Tensor], told: Told, dropped: Tensor | None = None
    ) -> Tensor:
        """Return x_0 [B, p].

        What is not known is a standard normal number: of it, `a x` is the best estimate, and what the network adds is
        scaled by the noise (Karras et al. 2022, arXiv 2206.00364). Untrained it draws the estimate with its errors.

        Args:
            x: [B, p].
            levels: [B] between 0 and 1.
            at: a and s of these levels, each [B, 1].
            told: the condition.
            dropped: bool [B], genes that are told nothing; None for none.
        """
        tokens, pooled, base = self._condition(told, dropped)
        c = self.level(level_code(levels)) + pooled
        h = self.enter(torch.cat([self.patches(x), self.patches(base)], -1)) + self.place
        for block in self.blocks:
            h = block(h, tokens, c)
        (shift, scale, _), h = self.last(c), functional.layer_norm(h, h.shape[-1:])
        out = self.patches.joined(self.leave(h * (1 + scale) + shift))
        return at[0] * x + at[1] * out

    def _condition(self, told: Told, dropped: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return (tokens [B, P + K, W], pooled profile [B, W], base [B, p])."""
        profile = self.profile(self.profile_patches(told.profile)) + self.profile_place
        near = (
            self.near(told.near) + self.near_profile(told.near_profile) + self.near_likeness(told.likeness[..., None])
        )
        tokens, pooled, base = torch.cat([profile, near], 1), self.pooled(told.profile), told.base
        if dropped is not None:
            tokens = torch.where(dropped[:, None, None], self.nothing, tokens)
            pooled = torch.where(dropped[:, None], self.nothing, pooled)
            base = base.masked_fill(dropped[:, None], 0.0)
        return tokens, pooled, base


class Modulated(nn.Module):
    """Shift, scale and gate of `n` branches from a vector; all zero before training (adaLN-zero).

    Args:
        width: W.
        n: branches.
    """

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3 * n * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.n = n

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """Return 3 n tensors [B, 1, W] of [B, W]."""
        return self.linear(functional.silu(c))[:, None].chunk(3 * self.n, -1)


class Block(nn.Module):
    """Self-attention, cross-attention to the condition, and a feed-forward layer, each gated.

    Args:
        width: W.
        heads: of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulated = Modulated(width, 3)
        self.own, self.own_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.told, self.told_out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.norm_told = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, tokens: Tensor, c: Tensor) -> Tensor:
        """Return [B, P, W].

        Args:
            h: [B, P, W].
            tokens: [B, T, W] of the condition.
            c: [B, W] level and pooled condition.
        """
        parts = self.modulated(c)
        own = self._normed(h, parts[0:2])
        h = h + parts[2] * self.own_out(self._attention(*self.own(own).chunk(3, -1)))
        key, value = self.told(self.norm_told(tokens)).chunk(2, -1)
        h = h + parts[5] * self.told_out(self._attention(self.query(self._normed(h, parts[3:5])), key, value))
        return h + parts[8] * self.feed(self._normed(h, parts[6:8]))

    def _normed(self, h: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        return functional.layer_norm(h, h.shape[-1:]) * (1 + parts[1]) + parts[0]

    def _attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        apart = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        return scaled_dot_product_attention(*apart).transpose(1, 2).flatten(2)


def level_code(levels: Tensor) -> Tensor:
    """Return [B, LEVEL_WIDTH] sines and cosines of levels [B] between 0 and 1."""
    n = LEVEL_WIDTH // 2
    rates = torch.exp(-math.log(_LONGEST) * torch.arange(n, device=levels.device) / n)
    angles = 1000 * levels[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
