"""From one cell to an embedding: its genes, another model's embedding, or its image.

`N` cells, `F` genes, `D` width of a given embedding, `W` width inside, `C` channels, `S` side in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.fusion.dropout import Dropout


class GeneEncoder(nn.Module):
    """LayerNorm, two linear layers.

    The norm's statistics are those of the input alone, so rows come with them applied (`normalise_rows`, once a
    slide), and its scale and shift are folded into the first layer: the same function, a third less arithmetic.

    Args:
        n_genes: F.
        hidden: width between the layers.
        width: W.
        dropout: share.
    """

    def __init__(self, n_genes: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_genes)
        self.first = nn.Linear(n_genes, hidden)
        self.dropout = Dropout(dropout)
        self.second = nn.Linear(hidden, width)

    def forward(self, rows: Tensor) -> Tensor:
        """Return [N, W] of normalised rows [N, F]."""
        weight = self.first.weight * self.norm.weight
        bias = self.first.bias + self.first.weight @ self.norm.bias
        hidden = functional.gelu(functional.linear(rows, weight, bias))
        out: Tensor = self.second(self.dropout(hidden))
        return out


def normalise_rows(rows: Tensor) -> Tensor:
    """Return rows [N, F] with mean 0 and variance 1 each: a LayerNorm without its parameters."""
    return functional.layer_norm(rows, rows.shape[1:])


class Projection(nn.Sequential):
    """LayerNorm, linear, GELU, dropout of an embedding [N, D] -> [N, W]."""

    def __init__(self, given: int, width: int, dropout: float) -> None:
        super().__init__(nn.LayerNorm(given), nn.Linear(given, width), nn.GELU(), Dropout(dropout))


class ImageProjection(nn.Sequential):
    """The same and a second linear layer, of image features [N, D] -> [N, W]."""

    def __init__(self, given: int, width: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(given), nn.Linear(given, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width)
        )


class ImageEncoder(nn.Module):
    """A small convolutional network over crops: uint8 [N, C, S, S] -> [N, W]; norms look at one crop alone."""

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for out in (16, 32, 64):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.GroupNorm(4, out), nn.GELU()]
            channels = out
        self.layers = nn.Sequential(*layers)
        self.last = nn.Sequential(Dropout(dropout), nn.Linear(channels, width))

    def forward(self, image: Tensor) -> Tensor:
        """Return [N, W]."""
        light = image.to(torch.float32) / 255  # [N, C, S, S]
        out: Tensor = self.last(self.layers(light).mean(dim=(2, 3)))
        return out
