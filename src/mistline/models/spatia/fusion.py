"""One vector of a cell from its image and its genes (specs/spatia.md, section 5).

`B` cells, `Lg` gene tokens (the first two are the base and the depth token), `Li` image tokens, `D` width of the gene
side and of the embedding, `Di` width of the image side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mistline.models.spatia.attention import Attention, feed_forward

Style = Literal["default", "official"]
N_PREPENDED = 2  # gene tokens that stand for the whole cell
_START = 0.1  # of the scalars that weigh a branch: a new block changes little


class FusionBlock(nn.Module):
    """Tokens of one side read the tokens of the other.

    `default`: `x + a Drop(MHA(LN(x), LN(kv)))`, then `+ b Drop(FFN(LN(.)))` with learned a and b. `official` is the
    published code's: no norm of the memory, no a and b, and what comes out is `x + combine_weight * r`, where r is the
    sum of x and both branches already.

    Args:
        width: of the tokens that read.
        given: width of the tokens that are read.
        heads: of the attention.
        hidden: of the feed-forward layer.
        dropout: of both branches.
        style: see above.
        combine_weight: see above; official only.
    """

    def __init__(
        self,
        width: int,
        given: int,
        heads: int,
        *,
        hidden: int,
        dropout: float,
        style: Style = "default",
        combine_weight: float = 1.0,
    ) -> None:
        super().__init__()
        is_default = style == "default"
        self.given = given
        self.combine_weight = None if is_default else combine_weight
        self.project = nn.Linear(given, width) if given != width else nn.Identity()
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width) if is_default else nn.Identity()
        self.norm_feed = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed = feed_forward(width, hidden)
        self.drop = nn.Dropout(dropout)
        if is_default:
            self.a = nn.Parameter(torch.tensor(_START))
            self.b = nn.Parameter(torch.tensor(_START))

    def forward(self, query: Tensor, memory: Tensor, pad: Tensor | None = None) -> Tensor:
        """Return [B, Q, width].

        Args:
            query: [B, Q, width].
            memory: [B, K, given].
            pad: bool [B, K], True where a token of the memory is none; every row needs one that is.
        """
        a, b = (self.a, self.b) if self.combine_weight is None else (1.0, 1.0)
        read = self.attention(self.norm_query(query), self.norm_memory(self.project(memory)), pad)
        out: Tensor = query + a * self.drop(read)
        out = out + b * self.drop(self.feed(self.norm_feed(out)))
        return out if self.combine_weight is None else query + self.combine_weight * out


class AttentionPool(nn.Module):
    """One vector of a sequence: what a learned query reads.

    Args:
        width: of the tokens.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        for layer in (self.attention.value, self.attention.out):
            nn.init.orthogonal_(layer.weight)  # see `CellFusion`

    def forward(self, tokens: Tensor, pad: Tensor | None = None) -> Tensor:
        """Return [B, width] of [B, K, width]; `pad` as in `FusionBlock`."""
        pooled: Tensor = self.attention(self.query.expand(len(tokens), -1, -1), self.norm(tokens), pad)[:, 0]
        return pooled


class Side(nn.Module):
    """The token that stands for a sequence which is not there.

    Args:
        width: of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.absent = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def forward(
        self, tokens: Tensor | None, pad: Tensor | None, present: Tensor | None, n: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return tokens and pad in which a row that is not present holds the absent token and nothing else.

        Args:
            tokens: [B, L, width]; None where no row has any.
            pad: bool [B, L], True where a token is none; None for nowhere.
            present: bool [B]; None where all rows are, if there are tokens.
            n: B.
        """
        if tokens is None:
            return self.absent.expand(n, 1, -1), None
        if present is None:
            return tokens, pad
        if pad is None:
            pad = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        rest = torch.ones_like(pad)
        rest[:, 0] = False
        there = present[:, None]
        return torch.where(there[..., None], tokens, self.absent.to(tokens.dtype)), torch.where(there, pad, rest)


@dataclass(frozen=True, slots=True)
class Fused:
    """What `CellFusion` makes of a batch.

    Args:
        z: [B, D] of the cell.
        z_image: [B, D] the image side's share of it.
        z_genes: [B, D] the gene side's.
        image: [B, Li, Di] fused tokens, for the image decoder.
        genes: [B, Lg, D] fused tokens, for the gene decoder.
    """

    z: Tensor
    z_image: Tensor
    z_genes: Tensor
    image: Tensor
    genes: Tensor


@dataclass(frozen=True, slots=True)
class FusionSizes:
    """Widths and heads of both sides.

    Args:
        width: D.
        heads: of the gene side.
        image_width: Di.
        image_heads: of the image side.
        layers: fusion blocks each way; 0 for none.
        dropout: of the blocks.
        style: of the blocks.
        combine_weight: of the official style.
    """

    width: int
    heads: int
    image_width: int
    image_heads: int
    layers: int
    dropout: float
    style: Style = "default"
    combine_weight: float = 1.0

    def block(self, query: str, image_reads: bool = False) -> FusionBlock:
        """Return a block in which that side (image or genes) reads the other; `image_reads`: its own kind."""
        own, other = (self.image_width, self.width) if query == "image" else (self.width, self.image_width)
        heads = self.image_heads if query == "image" else self.heads
        factor = 2.0 if self.style == "default" else 0.5
        return FusionBlock(
            own,
            own if image_reads else other,
            heads,
            hidden=int(factor * own),
            dropout=self.dropout,
            style=self.style,
            combine_weight=self.combine_weight,
        )


class CellFusion(nn.Module):
    """Image and genes read each other, each is pooled, and their sum is the cell.

    The layers that all of z^c passes through start as rotations: products of drawn matrices would squash most of its
    directions before anything is learned.

    Args:
        sizes: of both sides.
    """

    def __init__(self, sizes: FusionSizes) -> None:
        super().__init__()
        self.image_side, self.gene_side = Side(sizes.image_width), Side(sizes.width)
        self.to_genes = nn.ModuleList(sizes.block("genes") for _ in range(sizes.layers))
        self.to_image = nn.ModuleList(sizes.block("image") for _ in range(sizes.layers))
        self.pool_image = AttentionPool(sizes.image_width, sizes.image_heads)
        self.pool_genes = AttentionPool(sizes.width, sizes.heads)
        self.join_image = nn.Linear(sizes.image_width, sizes.width)
        self.join_genes = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width)
        for join in (self.join_image, self.join_genes):
            nn.init.orthogonal_(join.weight)

    def forward(
        self,
        image: Tensor | None,
        genes: Tensor | None,
        gene_pad: Tensor | None,
        has_image: Tensor | None,
        has_genes: Tensor | None,
    ) -> Fused:
        """Fuse.

        Args:
            image: [B, Li, Di] tokens; None where no cell has an image.
            genes: [B, Lg, D] tokens, base and depth first; None where no cell has genes.
            gene_pad: bool [B, Lg], True where a gene token is none; None for nowhere.
            has_image: bool [B]; what the tokens of a cell without say is not read. None where all have tokens.
            has_genes: bool [B], or None, likewise.
        """
        n = next(len(given) for given in (image, genes, has_image, has_genes) if given is not None)
        image, image_pad = self.image_side(image, None, has_image, n)
        genes, gene_pad = self.gene_side(genes, gene_pad, has_genes, n)
        for to_genes, to_image in zip(self.to_genes, self.to_image, strict=True):
            genes, image = to_genes(genes, image, image_pad), to_image(image, genes, gene_pad)
        z_image = self.join_image(self.pool_image(image, image_pad))
        z_genes = self.join_genes(
            self.pool_genes(genes[:, :N_PREPENDED], None if gene_pad is None else gene_pad[:, :N_PREPENDED])
        )
        return Fused(self.norm(z_image + z_genes), z_image, z_genes, image, genes)


def drop_modalities(n: int, share: float, draw: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw which cells are shown to the model without image, and which without genes; never both.

    Args:
        n: cells.
        share: of each.
        draw: generator on the device.
        device: of the result.

    Returns:
        has_image, has_genes: bool [n].
    """
    chance = torch.rand(n, generator=draw, device=device)
    return chance >= share, chance < 1 - share
