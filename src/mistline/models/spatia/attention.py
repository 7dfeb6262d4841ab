"""Attention with plain scaled dot products, and the pre-norm block of the niche and tissue transformers.

`B` rows, `Q` queries, `K` keys, `D` width, `H` heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries to the tokens of a memory of the same width.

    Args:
        width: D.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, memory: Tensor, pad: Tensor | None = None) -> Tensor:
        """Return [B, Q, D].

        Args:
            query: [B, Q, D].
            memory: [B, K, D].
            pad: bool [B, K], True where a token is none; every row needs a token that is one.
        """
        asked, keys, values = (
            self._split(self.ask(query)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
        )
        seen = None if pad is None else ~pad[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(asked, keys, values, attn_mask=seen)  # [B, H, Q, D / H]
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def of_few(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return what `forward` does, [B, Q, D], for a memory of so few tokens that K * H < D.

        Keys and values are carried through the projections of the queries and of the result, so that no query is
        projected: K * H products a query and number of the width in place of D, twice.

        Args:
            query: [B, Q, D], or [1, Q, D] where all rows ask the same.
            memory: [B, K, D].
        """
        keys, values = (part(memory).unflatten(2, (self.heads, -1)) for part in (self.key, self.value))  # [B, K, H, d]
        ask, bias = self.ask.weight.unflatten(0, (self.heads, -1)), self.ask.bias.unflatten(0, (self.heads, -1))
        asked = torch.einsum("bkhd,hdw->bhkw", keys, ask).flatten(1, 2)  # [B, H K, D]
        scores = asked @ query.transpose(1, 2) + torch.einsum("bkhd,hd->bhk", keys, bias).flatten(1)[..., None]
        # [B, H K, Q], the queries last: a softmax along a last axis of so few numbers is slow.
        share = (scores * keys.shape[3] ** -0.5).unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2)
        told = torch.einsum("bkhd,whd->bhkw", values, self.out.weight.unflatten(1, (self.heads, -1))).flatten(1, 2)
        out: Tensor = share.to(told.dtype).transpose(1, 2) @ told + self.out.bias
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    """Return width -> hidden -> width with GELU."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """A pre-norm transformer block.

    Args:
        width: D.
        heads: H.
        hidden: of the feed-forward layer.
        dropout: of both branches.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, heads)
        self.feed = feed_forward(width, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, pad: Tensor | None = None) -> Tensor:
        """Return [B, K, D] of [B, K, D]; `pad` as in `Attention`."""
        normed = self.norms[0](tokens)
        tokens = tokens + self.drop(self.attention(normed, normed, pad))
        out: Tensor = tokens + self.drop(self.feed(self.norms[1](tokens)))
        return out


def place_code(place: Tensor, width: int, wavelengths: tuple[float, float]) -> Tensor:
    """Return [..., width] sines and cosines of a place on a plane.

    Args:
        place: [..., 2], in any unit.
        width: a multiple of 4: a quarter each for sine and cosine of either coordinate.
        wavelengths: shortest and longest, in the unit of `place`; geometric between.
    """
    steps = torch.linspace(0, 1, width // 4, device=place.device, dtype=torch.float32)
    low, high = wavelengths
    angle = place.float()[..., None] * (2 * torch.pi / (low * (high / low) ** steps))  # [..., 2, width / 4]
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
