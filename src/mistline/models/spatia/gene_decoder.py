"""Genes asked for from z alone (specs/spatia.md, section 7, term iii).

`B` cells, `L` genes asked for, `D` width, `M` tokens that z is unfolded into.
"""

from __future__ import annotations

from torch import Tensor, nn

from mistline.models.spatia.attention import Attention, feed_forward

_MEMORY = 4  # with one token every query would attend to the same thing
_LAYERS = 2


class QueryLayer(nn.Module):
    """Pre-norm cross-attention of genes to a memory, then a feed-forward layer.

    Args:
        width: D.
        heads: of the attention.
        dropout: of both branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_query, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed = feed_forward(width, 2 * width)
        self.drop = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return [B, L, D] of queries [B, L, D], or [1, L, D] where all cells ask the same, and memory [B, M, D]."""
        query = query + self.drop(self.attention.of_few(self.norm_query(query), memory))
        out: Tensor = query + self.drop(self.feed(self.norm_feed(query)))
        return out


class QueryDecoder(nn.Module):
    """Vectors of genes as z has them. The genes do not see each other, so an answer does not depend on the others.

    Args:
        width: D.
        heads: of the attention.
        dropout: of the layers.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.memory = nn.Linear(width, _MEMORY * width)
        self.norm_memory = nn.LayerNorm(width)
        self.layers = nn.ModuleList(QueryLayer(width, heads, dropout) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, z: Tensor) -> Tensor:
        """Return [B, L, D].

        Args:
            query: [B, L, D] vectors of the genes; [1, L, D] where they are the same of all cells.
            z: [B, D].
        """
        memory = self.norm_memory(self.memory(z).unflatten(1, (_MEMORY, -1)))  # [B, M, D]
        for layer in self.layers:
            query = layer(query, memory)
        out: Tensor = self.norm(query)
        return out


class Factors(nn.Module):
    """Products of what z says and of what a gene listens to, as in a factor analysis of the log shares.

    Beside the attention, which starts by telling every gene the same, this is what z is learned by in the first
    hundreds of steps.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_gene, self.of_z = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, query: Tensor, z: Tensor) -> Tensor:
        """Return [B, L] of vectors of genes [B, L, D] or [1, L, D] and z [B, D]."""
        found: Tensor = (self.of_gene(query) @ self.of_z(z)[:, :, None])[..., 0]
        return found * query.shape[-1] ** -0.5
