"""A gene encoder written the plain way: torch's own transformer, every cell padded to the whole panel.

`B` cells, `G` genes of the panel, `D` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mistline.models.spatia.gene_tokens import GeneTokens
from mistline.models.spatia.genes import GeneSizes


class PlainGenes(nn.Module):
    """Gene and value vectors through `nn.TransformerEncoder`, pre-norm, with a base and a depth token.

    Args:
        sizes: see there.
    """

    def __init__(self, sizes: GeneSizes) -> None:
        super().__init__()
        width = sizes.width
        self.table = nn.Embedding(sizes.genes + 1, width, padding_idx=0)
        self.value, self.depth = (_value(width, sizes.dropout) for _ in range(2))
        self.base = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, sizes.heads, sizes.hidden, sizes.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, sizes.depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, index: Tensor, value: Tensor, depth: Tensor) -> Tensor:
        """Return [B, 2 + G, D].

        Args:
            index: int64 [B, G] gene + 1, 0 for PAD.
            value: float32 [B, G].
            depth: float32 [B].
        """
        genes = self.table(index) + self.value(value[..., None])
        first = self.depth(torch.log2(1 + depth)[:, None, None])
        tokens = torch.cat([self.base.expand(len(index), -1, -1), first, genes], dim=1)
        pad = torch.cat([torch.zeros(len(index), 2, dtype=torch.bool), index == 0], dim=1)
        out: Tensor = self.layers(tokens, src_key_padding_mask=pad)
        return out


def padded(tokens: GeneTokens, n_genes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return index, value and depth of the same cells, padded to the panel: int64 and float32 [B, G], float32 [B]."""
    more = (0, n_genes - tokens.pad.shape[1])
    return nn.functional.pad(tokens.index, more), nn.functional.pad(tokens.value, more), tokens.depth


def _value(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(1, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
    )
