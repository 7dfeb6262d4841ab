"""Fusion of two embeddings of a cell.

`N` cells, `M` of them asked for, `K` neighbours in the padded table, `W` width, `H` heads, `R` numbers that say
where a neighbour lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.fusion.dropout import Dropout
from mistline.models.fusion.graph import OFFSETS, Table


class GatedFusion(nn.Module):
    """A gate between two embeddings for every number of a cell, then a feed-forward layer with a residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return [N, W] of two [N, W]."""
        mixed = _gated(self.gate, first, second)
        out: Tensor = self.norm(mixed + self.feed(mixed))
        return out


class ImageGate(nn.Module):
    """A gate between what is fused and an image's embedding, and a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, fused: Tensor, image: Tensor) -> Tensor:
        """Return [N, W] of two [N, W]."""
        out: Tensor = self.norm(_gated(self.gate, fused, image))
        return out


def _gated(gate: nn.Linear, first: Tensor, second: Tensor) -> Tensor:
    share = torch.sigmoid(gate(torch.cat([first, second], dim=1)))
    return share * first + (1 - share) * second


class NeighbourAttention(nn.Module):
    """Multi-head attention of each cell to the rows of its neighbours.

    Keys and values of a cell are projected once, not once for each neighbour that reads them. Parameters are those
    of `torch.nn.MultiheadAttention`.

    Args:
        width: W.
        heads: H.
        dropout: share of the attention left out.
        has_bias: whether attention knows where a neighbour lies.
    """

    def __init__(self, width: int, heads: int, dropout: float, has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = Dropout(dropout)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)
        self.place = nn.Linear(OFFSETS, heads, bias=False) if has_bias else None
        self.own = nn.Parameter(torch.zeros(heads)) if has_bias else None
        if self.place is not None:
            nn.init.zeros_(self.place.weight)

    def forward(self, query: Tensor, memory: Tensor, table: Table) -> Tensor:
        """Return [M, W].

        Args:
            query: [M, W] who asks.
            memory: [N, W] what neighbours hold.
            table: neighbours of the M cells among the N.
        """
        n, width = query.shape
        each = width // self.heads
        asked, keys, values = (
            functional.linear(rows, weight, bias)
            for rows, weight, bias in zip(
                (query, memory, memory), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        keys = functional.embedding(table.index, keys).view(n, -1, self.heads, each)  # [M, K, H, W / H]
        values = functional.embedding(table.index, values).view(n, -1, self.heads, each)
        asked = asked.view(n, 1, self.heads, each)
        score = (asked * keys).sum(-1) * each**-0.5  # [M, K, H]
        if self.place is not None and table.offset is not None and self.own is not None:
            score = score + self.place(table.offset) + self.own * table.itself[..., None]
        attention = score.masked_fill(table.absent[..., None], float("-inf")).softmax(dim=1)
        out: Tensor = self.out_proj((self.dropout(attention)[..., None] * values).sum(1).reshape(n, width))
        return out


class CrossAttention(nn.Module):
    """Layers in which a cell's own embedding asks the graph embeddings of its neighbours.

    Args:
        width: W.
        heads: H.
        n_layers: number of layers; all read the same keys and values.
        dropout: share.
        has_bias: whether attention knows where a neighbour lies.
    """

    def __init__(self, width: int, heads: int, n_layers: int, dropout: float, has_bias: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(NeighbourAttention(width, heads, dropout, has_bias) for _ in range(n_layers))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width))
            for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * n_layers))
        self.dropout = Dropout(dropout)

    def forward(self, own: Tensor, near: Tensor, table: Table) -> Tensor:
        """Return [M, W].

        Args:
            own: [M, W] the asking cells' own embeddings.
            near: [N, W] graph embeddings of all cells.
            table: neighbours of the M cells among the N.
        """
        for number, (attention, feed) in enumerate(zip(self.attentions, self.feeds, strict=True)):
            own = self.norms[2 * number](own + self.dropout(attention(own, near, table)))
            own = self.norms[2 * number + 1](own + self.dropout(feed(own)))
        return own
