"""Graph layers: attention or convolution over a cell and its neighbours.

`N` cells, `M` of them asked for, `E` directed edges with loops, `W` width inside, `H` heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv, GCNConv

from mistline.models.fusion.dropout import Dropout
from mistline.models.fusion.graph import Edges


class GraphEncoder(nn.Module):
    """Layers of convolution, LayerNorm, ELU, dropout; a residual wherever the widths agree.

    The layers are torch-geometric's; loops and normalisation come with the edges instead of being made anew in each
    pass.

    Args:
        kind: gat or gcn.
        given: width of the nodes' features.
        width: W.
        heads: H, for gat.
        n_layers: number of layers.
        dropout: share, of attention and of the layers' outputs.
    """

    def __init__(
        self, kind: Literal["gat", "gcn"], given: int, width: int, heads: int, n_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for number in range(n_layers):
            into = width if number else given
            if kind == "gat":
                layer = GATConv(into, width // heads, heads=heads, dropout=dropout, add_self_loops=False)
            else:
                layer = GCNConv(into, width, normalize=False, add_self_loops=False)
            self.convolutions.append(layer)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))
        self.dropout = Dropout(dropout)

    def forward(self, features: Tensor, edges: Sequence[Edges], rows: Tensor | slice | None = None) -> Tensor:
        """Return [M, W].

        Args:
            features: [N, given].
            edges: of each layer.
            rows: the M cells that are asked for; None for all.
        """
        for number, (layer, norm, found) in enumerate(zip(self.convolutions, self.norms, edges, strict=True)):
            is_last = rows is not None and number + 1 == len(edges)
            used = found.into(rows, len(features)) if is_last and rows is not None else found
            weight = () if isinstance(layer, GATConv) else (used.weight,)
            mixed = layer(features, used.index, *weight)
            if is_last:
                mixed, features = mixed[rows], features[rows]
            out = self.dropout(functional.elu(norm(mixed)))
            features = out + features if out.shape == features.shape else out
        return features
