"""Counts of a batch of cells as padded gene tokens (specs/spatia.md, section 2.4).

`B` cells, `N` counts of the batch one cell after the other, `G` genes of the vocabulary, `P` panels, `L` tokens of the
longest cell, `K` zeros drawn for a cell at most.

Nothing here asks the device for a number: every shape is known from the batch before its tensors are sent there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

PAD = 0  # gene g of the vocabulary is token g + 1


@dataclass(frozen=True, slots=True)
class SparseGenes:
    """Counts as the loader gives them.

    Attributes:
        index: int64 [N] place in the vocabulary; -1 for a gene that is not in it.
        count: [N] above zero.
        row: int64 [N] cell of each count, rising.
        start: int64 [B] where each cell begins.
        panel: int64 [B] row of `Panels` that says what was measured.
        longest: the most counts of one cell.
    """

    index: Tensor
    count: Tensor
    row: Tensor
    start: Tensor
    panel: Tensor
    longest: int

    def to(self, device: torch.device | str) -> SparseGenes:
        """Return it on a device."""
        moved = {item.name: getattr(self, item.name) for item in fields(self)}
        return SparseGenes(
            **{name: of.to(device, non_blocking=True) if isinstance(of, Tensor) else of for name, of in moved.items()}
        )


@dataclass(frozen=True, slots=True)
class Panels:
    """The genes that were measured, panel by panel.

    Attributes:
        genes: int64 [P, largest panel] places in the vocabulary, then anything.
        size: int64 [P].
    """

    genes: Tensor
    size: Tensor

    @classmethod
    def of(cls, measured: Tensor) -> Panels:
        """Return the panels of bool [P, G]."""
        size = measured.sum(1)
        ranked = measured.int().argsort(dim=1, descending=True, stable=True)
        return cls(ranked[:, : int(size.max()) if len(size) else 0], size)


@dataclass(frozen=True, slots=True)
class GeneTokens:
    """Genes of a batch of cells; what lies at a PAD says nothing.

    Attributes:
        index: int64 [B, L] gene + 1; 0 for PAD.
        count: float32 [B, L] what was counted: the truth that losses ask for; the encoder never reads it.
        value: float32 [B, L] what the encoder reads: the count over the sum of the cell's seen counts.
        masked: bool [B, L] whether the value is hidden.
        pad: bool [B, L].
        depth: float32 [B] counts over all measured genes, the hidden ones left out.
    """

    index: Tensor
    count: Tensor
    value: Tensor
    masked: Tensor
    pad: Tensor
    depth: Tensor

    def rows(self, rows: Tensor, length: int) -> GeneTokens:
        """Return some cells, and of each the first `length` tokens."""
        cut = {item.name: getattr(self, item.name)[rows] for item in fields(self)}
        return GeneTokens(**{name: of if of.ndim == 1 else of[:, :length] for name, of in cut.items()})

    def lengths(self) -> Tensor:
        """Return int64 [B], the tokens that are none of PAD; they come first."""
        return (~self.pad).sum(1)


def sparse(index: Tensor, count: Tensor, offset: Tensor, panel: Tensor) -> SparseGenes:
    """Return the counts of a batch, prepared in main memory.

    Args:
        index: int64 [N] place in the vocabulary; -1 for a gene that is not in it.
        count: [N].
        offset: int64 [B + 1] where each cell starts.
        panel: int64 [B] row of `Panels`.
    """
    lengths = offset.diff()
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    longest = int(lengths.max()) if len(lengths) else 0
    return SparseGenes(index, count.float(), row, offset[:-1] - offset[:1], panel, longest)


def collate(
    given: SparseGenes, max_len: int, *, panels: Panels | None = None, zeros: float = 0, draw: torch.Generator | None
) -> GeneTokens:
    """Return the tokens of a batch: its expressed genes, then measured zeros.

    Genes that are not on a cell's panel never appear.

    Args:
        given: the counts.
        max_len: tokens of a cell at most. Of more expressed genes a random subset is taken; the largest counts, and
            among equals the first of the vocabulary, where nothing is drawn.
        panels: what was measured; only zeros need it.
        zeros: the most zeros of a cell, as a share of its expressed genes; how many is drawn evenly from 0 up, and
            which evenly from the cell's measured zeros. None without `draw`.
        draw: on the device of the counts; None where nothing is drawn, as when embedding.
    """
    n_cells, known, device = len(given.panel), given.index >= 0, given.count.device
    count = torch.where(known, given.count, 0.0)
    depth = count.new_zeros(n_cells).index_add_(0, given.row, count)
    longest = min(given.longest, max_len)
    n_zeros = math.ceil(longest * zeros) if draw is not None and panels is not None else 0
    length = min(longest + n_zeros, max_len)
    # One column more takes what has no place, and is cut off: no shape depends on numbers on the device.
    index = torch.zeros(n_cells, length + 1, dtype=torch.int64, device=device)
    kept = torch.zeros(n_cells, length + 1, device=device)
    column = _columns(given, known, max_len, draw).clamp(max=length)
    index[given.row, column] = given.index + 1
    kept[given.row, column] = count
    if n_zeros and panels is not None and draw is not None:
        held = torch.zeros(n_cells, dtype=torch.int64, device=device).index_add_(0, given.row, known.long())
        gene, fits = _zeros(given, panels, (held * zeros).ceil(), n_zeros, draw)
        place = torch.where(fits, held[:, None] + fits.cumsum(1) - 1, length).clamp(max=length)
        index.scatter_(1, place, gene + 1)
    index, kept = index[:, :length].contiguous(), kept[:, :length].contiguous()
    pad = index == PAD
    return renewed(GeneTokens(index, kept, kept, torch.zeros_like(pad), pad, depth), kept, depth)


def renewed(tokens: GeneTokens, seen: Tensor, depth: Tensor) -> GeneTokens:
    """Return the tokens with values of the counts that the encoder may see.

    Args:
        tokens: whose values are replaced.
        seen: [B, L] counts, 0 where they are hidden.
        depth: [B] their sum with that of the genes that have no token.
    """
    return replace(tokens, value=seen / seen.sum(1, keepdim=True).clamp(min=1), depth=depth)


def _columns(given: SparseGenes, known: Tensor, max_len: int, draw: torch.Generator | None) -> Tensor:
    """Return int64 [N]: the column of each count; `max_len` for what is left out."""
    if given.longest <= max_len:
        before = known.cumsum(0) - known.long()
        return torch.where(known, before - before[given.start[given.row]], max_len)
    device = given.index.device
    first = -given.count if draw is None else torch.rand(len(given.index), generator=draw, device=device)
    by_key = torch.where(known, first, torch.inf).argsort(stable=True)
    order = by_key[given.row[by_key].argsort(stable=True)]  # cell after cell, within each by the key
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=device) - given.start[given.row]  # the rows do not change places
    return torch.where(known & (rank < max_len), rank, max_len)


def _zeros(
    given: SparseGenes, panels: Panels, most: Tensor, n_zeros: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return int64 [B, K] genes drawn from the panels, and bool [B, K] which are taken: 0 to `most` [B] of a cell.

    Genes are drawn with replacement; repeated and expressed ones do not fit, which is cheaper than shuffling the panel
    of every cell and as even among the zeros that are left.
    """
    device, n_genes = given.index.device, int(panels.genes.shape[1])
    n_cells = len(given.panel)
    size = panels.size[given.panel]
    drawn = torch.rand(n_cells, n_zeros, generator=draw, device=device, dtype=torch.float64)
    if n_genes == 0 or len(given.index) == 0:
        return torch.zeros_like(drawn, dtype=torch.int64), torch.zeros_like(drawn, dtype=torch.bool)
    gene = panels.genes[given.panel[:, None], (drawn * size[:, None]).long().clamp(max=n_genes - 1)]
    gene = gene.sort(dim=1).values  # so that repeated genes are neighbours
    again = torch.zeros_like(gene, dtype=torch.bool)
    again[:, 1:] = gene[:, 1:] == gene[:, :-1]
    mixed = torch.rand(n_cells, n_zeros, generator=draw, device=device).argsort(1)  # else small genes come first
    gene, again = gene.gather(1, mixed), again.gather(1, mixed)
    stride = 1 << 32
    stored = (given.row * stride + given.index + 1).sort().values
    asked = torch.arange(n_cells, device=device)[:, None] * stride + gene + 1
    found = stored[torch.searchsorted(stored, asked).clamp(max=len(stored) - 1)] == asked
    fits = ~again & ~found & (size > 0)[:, None]
    wanted = (torch.rand(n_cells, generator=draw, device=device) * (most + 1)).floor()
    return gene, fits & (fits.cumsum(1) <= wanted[:, None])
