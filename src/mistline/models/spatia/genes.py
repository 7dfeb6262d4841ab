"""The gene encoder (specs/spatia.md, section 3), and batches in chunks of about one length.

`B` cells, `G` genes of the vocabulary, `L` gene tokens of the longest cell, `D` width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.spatia.attention import Block
from mistline.models.spatia.gene_tokens import PAD, GeneTokens

N_PREPENDED = 2  # base and depth, before the genes
_LARGEST = 1e5  # of what a value encoder reads
_VALUE_RANGE, _DEPTH_RANGE = 0.05, 8.0  # what values, and log2 of depths, differ by from cell to cell
_SPREAD = 0.5  # of a drawn gene vector: about that of the values and places it is added to


@dataclass(frozen=True, slots=True)
class GeneSizes:
    """Sizes of the gene side.

    Args:
        genes: G.
        width: D.
        depth: blocks.
        heads: of a block; D is a multiple.
        hidden: of a block's feed-forward layer.
        dropout: of a block's branches and of the value encoders.
    """

    genes: int
    width: int
    depth: int
    heads: int
    hidden: int
    dropout: float = 0.1


class ValueEncoder(nn.Module):
    """Vector of a number of at least 0: Linear, LayerNorm, ReLU, dropout, Linear.

    Args:
        width: D.
        dropout: share.
        usual: range of the numbers; the first layer starts so that it tells them apart, which its norm would prevent
            where they are far smaller or larger than its biases.
    """

    def __init__(self, width: int, dropout: float, usual: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        with torch.no_grad():
            self.layers[0].weight.div_(usual)

    def forward(self, value: Tensor) -> Tensor:
        """Return [..., D] of [...]; values are clamped to 0 .. 100,000."""
        out: Tensor = self.layers(value.clamp(0, _LARGEST)[..., None])
        return out


class GeneTable(nn.Module):
    """Vector of a gene: given and frozen, or learned; PAD is zero. Its place on the genome may be added.

    Args:
        genes: G.
        width: D.
        positions: int64 [G] index along the genome, -1 where not known; None for no places.
        vectors: float32 [G, D], a row of zeros where a gene has none; None where none has.
        freeze: given vectors stay as they are; else they are where learning starts.
    """

    def __init__(
        self, genes: int, width: int, positions: Tensor | None, vectors: Tensor | None, freeze: bool = True
    ) -> None:
        super().__init__()
        given = torch.zeros(genes, dtype=torch.bool) if vectors is None else vectors.abs().sum(1) > 0
        learned = ~given if freeze else torch.ones_like(given)
        row = torch.where(learned, learned.cumsum(0), 0)  # 0 is PAD, and every frozen gene
        self.register_buffer("row", functional.pad(row, (1, 0)), persistent=False)
        table = torch.randn(int(learned.sum()) + 1, width) * _SPREAD
        if vectors is not None and not freeze:
            table[1:][given] = vectors[given]
        table[PAD] = 0
        self.learned = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=PAD)
        frozen = functional.pad(vectors, (0, 0, 1, 0)) if vectors is not None and freeze else None
        self.register_buffer("vectors", frozen)
        self.register_buffer("positions", positions)
        waves = None if positions is None else _waves(functional.pad(positions, (1, 0), value=-1), width)
        self.register_buffer("waves", waves, persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Return [..., D] of int64 [...] tokens (gene + 1)."""
        out: Tensor = self.learned(self.row[index])
        for table in (self.vectors, self.waves):
            if table is not None:
                out = out + functional.embedding(index, table).to(out.dtype)
        return out


class GeneEncoder(nn.Module):
    """Tokens of genes through a pre-norm transformer, with a base token and a depth token before them.

    A token is the gene's vector, the encoded value and the gene's place on the genome. The value of a hidden gene is
    the zero vector. The depth token encodes log2(1 + depth). Attention is not dropped, only both branches' outputs: a
    dropped attention leaves the fast kernels.

    The base token starts from the mean of the gene vectors, weighted by the logarithms of the values that are seen.
    Attention that is still even would give it little more than what all cells share, and its gradient as little of
    what tells them apart: hundreds of steps are saved so.

    Args:
        sizes: see there.
        positions: see `GeneTable`; kept in the state as `table.positions`.
        vectors: see `GeneTable`; kept in the state, if frozen, as `table.vectors` with a row before them.
        freeze: see `GeneTable`.
    """

    def __init__(
        self, sizes: GeneSizes, positions: Tensor | None = None, vectors: Tensor | None = None, *, freeze: bool = True
    ) -> None:
        super().__init__()
        width = sizes.width
        self.table = GeneTable(sizes.genes, width, positions, vectors, freeze)
        self.value = ValueEncoder(width, sizes.dropout, _VALUE_RANGE)
        self.of_depth = ValueEncoder(width, sizes.dropout, _DEPTH_RANGE)
        self.base = nn.Parameter(torch.randn(width) * 0.02)
        self.of_mean = nn.Linear(width, width)
        nn.init.orthogonal_(self.of_mean.weight)  # it passes on what tells cells apart, in all directions alike
        self.blocks = nn.ModuleList(Block(width, sizes.heads, sizes.hidden, sizes.dropout) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: GeneTokens, *, is_full: bool = False) -> Tensor:
        """Return [B, 2 + L, D]: base, depth, genes; zeros at PAD.

        Args:
            tokens: of B cells.
            is_full: known to hold no PAD, so that attention needs no mask.
        """
        values = self.value(tokens.value).masked_fill(tokens.masked[..., None], 0)
        vectors = self.table(tokens.index)
        genes = vectors + values  # [B, L, D]
        depth = self.of_depth(torch.log2(1 + tokens.depth))[:, None]
        share = torch.log1p(tokens.value / _VALUE_RANGE).masked_fill(tokens.masked | tokens.pad, 0)  # [B, L]
        share = share / share.norm(dim=1, keepdim=True).clamp(min=1e-6)
        base = self.base + self.of_mean(share[:, None] @ vectors)  # [B, 1, D]
        mixed = torch.cat([base.to(depth.dtype), depth, genes.to(depth.dtype)], dim=1)
        pad = None if is_full else prepended(tokens.pad)
        for block in self.blocks:
            mixed = block(mixed, pad)
        out: Tensor = self.norm(mixed)
        return out if pad is None else out.masked_fill(pad[..., None], 0)


def prepended(pad: Tensor) -> Tensor:
    """Return bool [B, 2 + L] of [B, L]: the tokens before the genes are never PAD."""
    return functional.pad(pad, (N_PREPENDED, 0), value=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cells of about one length.

    Attributes:
        rows: int64 [b] cells of the batch.
        length: tokens of the longest; -1 for cells that are not shown.
        is_full: whether all are that long.
    """

    rows: Tensor
    length: int
    is_full: bool


def chunked(tokens: GeneTokens, chunks: int, shown: Tensor | None = None) -> list[Chunk]:
    """Return the cells of a batch, sorted by length, in so many parts of the same size; every cell is in one.

    This asks the device once for the lengths.

    Args:
        tokens: of B cells.
        chunks: how many.
        shown: bool [B]; the others come first, in a chunk of their own. None for all.
    """
    lengths = tokens.lengths()
    lengths, order = (lengths if shown is None else torch.where(shown, lengths, -1)).sort(stable=True)
    on_host = lengths.tolist()
    n_hidden = on_host.count(-1)
    size = max(1, -(-(len(on_host) - n_hidden) // chunks))
    starts = [*([0] if n_hidden else []), *range(n_hidden, len(on_host), size)]
    ends = [*starts[1:], len(on_host)]
    return [
        Chunk(order[start:end], on_host[end - 1], on_host[start] == on_host[end - 1])
        for start, end in zip(starts, ends, strict=True)
    ]


def in_order(found: list[Tensor], chunks: list[Chunk]) -> Tensor:
    """Return [B, ...] of the batch's cells, from [b, ...] of each chunk."""
    order = torch.cat([chunk.rows for chunk in chunks])
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return torch.cat(found)[place]


def _waves(positions: Tensor, width: int) -> Tensor:
    """Return float32 [n, width]: sines, then cosines, of the index along the genome; zeros where it is -1."""
    steps = torch.arange(width // 2, dtype=torch.float64) * 2 / width
    angle = positions[:, None].double() / 10_000**steps
    waves = torch.cat([angle.sin(), angle.cos()], dim=1).float()
    return waves.masked_fill((positions < 0)[:, None], 0)
