"""The fusion networks written the published way: loops and neighbour padding made anew in each forward pass,
neighbours' rows projected once for each cell that reads them. Written from the description, for comparison only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv


class Gene(nn.Sequential):
    def __init__(self, genes: int) -> None:
        super().__init__(nn.LayerNorm(genes), nn.Linear(genes, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 128))


class Gat(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GATConv(width, 32, heads=4, dropout=0.1) for width in (given, 128))
        self.norms = nn.ModuleList(nn.LayerNorm(128) for _ in range(2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            out = self.dropout(nn.functional.elu(norm(layer(features, edges))))
            features = out + features if out.shape == features.shape else out
        return features


def padded(edges: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return (neighbours [n, K], padding [n, K]); a node without neighbours has itself."""
    count = torch.zeros(n, dtype=torch.long).scatter_add_(0, edges[1], torch.ones_like(edges[1]))
    order = edges[1].argsort()
    sender, receiver = edges[0][order], edges[1][order]
    start = torch.cat([torch.zeros(1, dtype=torch.long), count.cumsum(0)[:-1]])
    place = torch.arange(len(sender)) - start[receiver]
    width = max(int(count.max()), 1)
    index, mask = torch.zeros(n, width, dtype=torch.long), torch.ones(n, width, dtype=torch.bool)
    index[receiver, place], mask[receiver, place] = sender, False
    alone = (count == 0).nonzero()[:, 0]
    index[alone, 0], mask[alone, 0] = alone, False
    return index, mask


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(nn.MultiheadAttention(128, 4, 0.1, batch_first=True) for _ in range(2))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 128)) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(128) for _ in range(4))
        self.dropout = nn.Dropout(0.1)

    def forward(self, own: Tensor, near: Tensor, edges: Tensor) -> Tensor:
        index, mask = padded(edges, len(own))
        for number in range(2):
            rows = near[index]
            found, _ = self.attentions[number](own[:, None], rows, rows, key_padding_mask=mask)
            own = self.norms[2 * number](own + self.dropout(found[:, 0]))
            own = self.norms[2 * number + 1](own + self.dropout(self.feeds[number](own)))
        return own


class Published(nn.Module):
    """gat_only or cross_attention.

    Args:
        preset: which.
        genes: F.
        classes: L.
    """

    def __init__(self, preset: str, genes: int, classes: int) -> None:
        super().__init__()
        self.gene = Gene(genes) if preset == "cross_attention" else None
        self.gat = Gat(128 if self.gene else genes)
        self.cross = Cross() if self.gene else None
        self.last = nn.Linear(128, classes)

    def forward(self, rows: Tensor, edges: Tensor) -> Tensor:
        if self.gene is None or self.cross is None:
            return self.last(self.gat(rows, edges))
        own = self.gene(rows)
        return self.last(self.cross(own, self.gat(own, edges), edges))


def train(model: Published, rows: Tensor, edges: Tensor, label: Tensor, parts: tuple[Tensor, Tensor], n: int) -> None:
    """Take `n` epochs: a step on all training nodes, then a look at the validation nodes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    train_rows, val_rows = parts
    for _ in range(n):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows, edges)[train_rows], label[train_rows]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            model(rows, edges)[val_rows].argmax(dim=1)
