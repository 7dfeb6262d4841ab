"""The parts put together as the settings name them.

`N` cells, `M` of them asked for, `F` genes, `D` width of a given embedding, `W` width inside, `O` outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mistline.models.fusion.encoders import GeneEncoder, ImageEncoder, ImageProjection, Projection
from mistline.models.fusion.graph import Graph
from mistline.models.fusion.layers import GraphEncoder
from mistline.models.fusion.mixing import CrossAttention, GatedFusion, ImageGate
from mistline.models.fusion.params import Params

ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of what the network is given.

    Args:
        genes: F.
        embedding: D of the frozen encoder.
        image: D of frozen image features, or channels of trainable images.
        outputs: O, classes or genes to reconstruct.
    """

    genes: int
    embedding: int
    image: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Cells as the network reads them; what it does not read is None.

    Args:
        genes: float32 [N, F] standardised; rows normalised (`encoders.normalise_rows`) for the gene encoder.
        embedding: float32 [N, D].
        image: float32 [N, D], or uint8 [N, C, S, S].
        graph: of the N cells.
        target: float32 [N, O] to reconstruct.
    """

    genes: Tensor | None = None
    embedding: Tensor | None = None
    image: Tensor | None = None
    graph: Graph | None = None
    target: Tensor | None = None


class Network(nn.Module):
    """Encoder, graph, fusion and image, then a linear layer.

    Args:
        params: which parts.
        sizes: of what it is given.
    """

    def __init__(self, params: Params, sizes: Sizes) -> None:
        super().__init__()
        width, dropout = params.width, params.dropout
        self.fusion = params.fusion
        self.encoder: nn.Module | None = None
        if params.encoder == "mlp":
            self.encoder = GeneEncoder(sizes.genes, params.hidden, width, dropout)
        elif params.encoder == "frozen":
            self.encoder = Projection(sizes.embedding, width, dropout)
        self.reads_genes = params.encoder == "mlp"
        self.near: GraphEncoder | None = None
        if params.graph != "none":
            given = sizes.genes if self.encoder is None else width
            self.near = GraphEncoder(params.graph, given, width, params.heads, params.graph_layers, dropout)
        self.image: nn.Module | None = None
        if params.image == "frozen":
            self.image = ImageProjection(sizes.image, width, dropout)
        elif params.image == "trainable":
            self.image = ImageEncoder(sizes.image, width, dropout)
        n_given = sum(part is not None for part in (self.encoder, self.near, self.image))
        self.mix: nn.Module | None = None
        if self.fusion == "gated":
            self.mix = GatedFusion(width, dropout)
        elif self.fusion == "cross_attention":
            self.mix = CrossAttention(width, params.heads, params.attention_layers, dropout, not params.official)
        self.image_gate = ImageGate(width) if n_given == 3 and self.fusion != "concat" else None
        self.out_width = width * n_given if self.fusion == "concat" else width
        self.last = _last(params, self.out_width, sizes.outputs)

    def embed(self, inputs: Inputs, rows: Tensor | slice = ALL) -> Tensor:
        """Return [M, W] (all parts side by side for concat) before the last layers.

        Args:
            inputs: N cells.
            rows: the M cells that are asked for; only what they depend on is computed.
        """
        own_rows, rows = (rows, ALL) if self.near is None else (ALL, rows)
        given = inputs.genes if self.reads_genes else inputs.embedding
        own = self.encoder(_given(given)[own_rows]) if self.encoder else None
        near = None
        if self.near is not None:
            features = own if own is not None else _given(inputs.genes)
            is_read_whole = isinstance(self.mix, CrossAttention)
            near = self.near(features, _given(inputs.graph).layers, None if is_read_whole else rows)
        image = None
        if self.image is not None:
            image = self.image(_given(inputs.image)[own_rows if self.near is None else rows])
        if isinstance(self.mix, CrossAttention):
            fused: Tensor = self.mix(_given(own)[rows], near, _given(_given(inputs.graph).table).of(rows))
            return fused if self.image_gate is None else self.image_gate(fused, image)
        if own is not None and near is not None:
            own = own[rows]
        return self._joined([part for part in (own, near, image) if part is not None])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Return what the parts give together; the last of them where they are not fused."""
        if self.fusion == "concat":
            return torch.cat(list(parts), dim=1)
        if self.mix is None:
            return parts[-1]
        fused: Tensor = self.mix(*parts[:2])
        return fused if self.image_gate is None else self.image_gate(fused, parts[2])

    def forward(self, inputs: Inputs, rows: Tensor | slice = ALL) -> Tensor:
        """Return [M, O] of the cells asked for."""
        out: Tensor = self.last(self.embed(inputs, rows))
        return out

    def code(self, inputs: Inputs, rows: Tensor | slice = ALL) -> Tensor:
        """Return [M, n_components], the embedding of a network that reconstructs."""
        out: Tensor = self.last[0](self.embed(inputs, rows))
        return out


def _last(params: Params, width: int, outputs: int) -> nn.Module:
    if params.objective == "labels":
        return nn.Linear(width, outputs)
    return nn.Sequential(
        nn.Linear(width, params.n_components),
        nn.Linear(params.n_components, params.hidden),
        nn.GELU(),
        nn.Linear(params.hidden, outputs),
    )


def _given(value: Any) -> Any:
    if value is None:
        raise RuntimeError("the network was given less than it reads")
    return value
