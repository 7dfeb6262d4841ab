"""What lies around a cell: its niche and its tissue region (specs/spatia.md, section 6).

A cell never sees itself in its own context: its niche is encoded from the other members, and in its region's sequence
this leave-one-out vector stands in place of the niche's own. This is exact, so that a cell whose genes are a target
cannot be read off the context.

`N` cells at hand, `T` niches at hand, `Q` cells asked for, `M` members, `R` niches of a region, `P` image tokens,
`D` width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mistline.models.spatia.attention import Attention, Block, feed_forward, place_code
from mistline.models.spatia.fusion import FusionBlock, Side

CELL_WAVELENGTHS_UM = (1.0, 500.0)
GRID_WAVELENGTHS = (2.0, 512.0)  # in niches
_PLACE_START = 0.1  # share of the place codes: at full size they drown, in a mean of few cells, what these are


def members(
    group: Tensor, asked: Tensor, own: Tensor | None, most: int, draw: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """List, for each query, rows of its group without its own row.

    Where a group has more than `most`, every k-th of its rows is taken (k need not be whole), from a random start
    with `draw`; so each row is as likely as any other.

    Args:
        group: int64 [N] group of each row.
        asked: int64 [Q] group of each query.
        own: int64 [Q] the query's own row, which is left out; None for none.
        most: rows of a query, at most.
        draw: generator on the same device; None takes the first start.

    Returns:
        index int64 [Q, M] of rows and mask bool [Q, M], True where there is one; M is at least 1.
    """
    order = torch.argsort(group, stable=True)
    ordered = group[order].contiguous()
    first = torch.searchsorted(ordered, asked.contiguous())
    n = torch.searchsorted(ordered, asked.contiguous(), right=True) - first
    if own is not None:
        at = torch.empty_like(order)
        at[order] = torch.arange(len(order), device=order.device)
        place = at[own] - first  # of the own row in its group
        n = n - 1
    longest = max(1, min(most, int(n.max()) if len(n) else 1))
    slot = torch.arange(longest, device=group.device)
    mask = slot < n[:, None]
    start = torch.zeros(len(asked), device=group.device, dtype=torch.float64)
    if draw is not None:
        start = torch.rand(len(asked), generator=draw, device=group.device, dtype=torch.float64)
    step = (n / most).clamp(min=1.0).to(torch.float64)
    start = torch.where(step > 1, start, 0.0)
    position = ((slot + start[:, None]) * step[:, None]).floor().long().clamp(max=len(group))
    position = position.minimum((n[:, None] - 1).clamp(min=0))
    if own is not None:
        position = position + (position >= place[:, None])
    index = order[(first[:, None] + position).clamp(max=len(order) - 1)]
    return torch.where(mask, index, 0), mask


class NicheEncoder(nn.Module):
    """Cells of a niche attend to each other; their mean reads the niche's image (eq. 6).

    Args:
        width: D.
        heads: of the attention.
        layers: of the transformer.
        image: the block in which the niche reads its image.
        dropout: of the blocks.
    """

    def __init__(self, width: int, heads: int, layers: int, image: FusionBlock, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.empty = nn.Parameter(torch.randn(width) * 0.02)
        self.place = nn.Parameter(torch.tensor(_PLACE_START))
        self.side = Side(image.given)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.image = image

    def mean(self, cells: Tensor, offset_um: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        """Return [Q, D], the mean of the members after they have attended to each other.

        Args:
            cells: [N, D].
            offset_um: [N, 2] from the centre of the niche.
            index: [Q, M] members.
            mask: bool [Q, M], True where there is one; a row without any gives the learned empty niche.
        """
        place = self.place * place_code(offset_um, self.width, CELL_WAVELENGTHS_UM)
        here = (cells + place.to(cells.dtype))[index]
        some = mask.any(dim=1)
        pad = ~mask
        pad[:, 0] &= some  # attention needs a token; what it gives for an empty niche is replaced below
        for block in self.blocks:
            here = block(here, pad)
        share = mask.to(here.dtype)[..., None]
        mean = (self.norm(here) * share).sum(1) / share.sum(1).clamp(min=1)
        return torch.where(some[:, None], mean, self.empty.to(mean.dtype))

    def forward(self, mean: Tensor, image: Tensor | None, has_image: Tensor) -> Tensor:
        """Return z^n [Q, D].

        Args:
            mean: [Q, D] as `mean` gives it.
            image: [Q, P, Di] tokens of the niche's image; None where there is none.
            has_image: bool [Q].
        """
        memory, pad = self.side(image, None, has_image, len(mean))
        out: Tensor = self.image(mean[:, None], memory, pad)[:, 0]
        return out


class TissueEncoder(nn.Module):
    """Niches of a region attend to each other; the cell's niche reads them (eq. 7).

    Args:
        width: D.
        heads: of the attention.
        layers: of the transformer.
        read: the block in which a niche reads its region.
        dropout: of the blocks.
    """

    def __init__(self, width: int, heads: int, layers: int, read: FusionBlock, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.place = nn.Parameter(torch.tensor(_PLACE_START))
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width, dropout) for _ in range(layers))
        self.read = read

    def forward(
        self, own: Tensor, own_place: Tensor, niches: Tensor, places: Tensor, index: Tensor, mask: Tensor
    ) -> Tensor:
        """Return z^t [Q, D].

        Args:
            own: [Q, D] z^n of each query: of a cell, without itself.
            own_place: [Q, 2] column and row of its niche in the region.
            niches: [T, D] z^n of whole niches.
            places: [T, 2] column and row of each.
            index: [Q, R] the region's other niches, never the query's own.
            mask: bool [Q, R], True where there is one.
        """
        around = niches[index]  # [Q, R, D]
        tokens = torch.cat([own[:, None], around], dim=1)
        place = torch.cat([own_place[:, None], places[index]], dim=1)
        tokens = tokens + (self.place * place_code(place, self.width, GRID_WAVELENGTHS)).to(tokens.dtype)
        pad = torch.cat([torch.zeros_like(mask[:, :1]), ~mask], dim=1)
        for block in self.blocks:
            tokens = block(tokens, pad)
        out: Tensor = self.read(own[:, None], tokens, pad)[:, 0]
        return out


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the cells at hand lie.

    Args:
        niche: int64 [N] which of the T niches holds a cell.
        offset_um: float32 [N, 2] of a cell from the centre of its niche.
        region: int64 [T] which region holds a niche.
        place: float32 [T, 2] column and row of a niche in its region.
        has_image: bool [T] whether the niche's image is read.
    """

    niche: Tensor
    offset_um: Tensor
    region: Tensor
    place: Tensor
    has_image: Tensor


class Surroundings(nn.Module):
    """Niche and tissue of every cell at hand, none of them seeing the cell itself.

    Args:
        niche: encoder of niches.
        tissue: encoder of regions; None for a model without.
        most_cells: members of a niche that are read.
        most_niches: niches of a region that are read beside the cell's own.
    """

    def __init__(
        self, niche: NicheEncoder, tissue: TissueEncoder | None, most_cells: int = 64, most_niches: int = 255
    ) -> None:
        super().__init__()
        self.niche, self.tissue = niche, tissue
        self.most_cells, self.most_niches = most_cells, most_niches

    def niches(
        self, cells: Tensor, layout: Layout, image: Tensor | None, draw: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return z^n [N, D] of each cell's niche without the cell, and [T, D] of whole niches.

        Args:
            cells: [N, D] z^c of all cells of the niches.
            layout: where they lie.
            image: [T, P, Di] tokens of the niches' images; None where there are none.
            draw: chooses among the members of a large niche; None chooses evenly.
        """
        n, n_niches = len(cells), len(layout.region)
        own_row = torch.arange(n, device=cells.device)
        each = torch.arange(n_niches, device=cells.device)
        found = []
        for asked, own in ((layout.niche, own_row), (each, None)):
            index, mask = members(layout.niche, asked, own, self.most_cells, draw)
            mean = self.niche.mean(cells, layout.offset_um, index, mask)
            found.append(self.niche(mean, None if image is None else image[asked], layout.has_image[asked]))
        return found[0], found[1]

    def regions(self, own: Tensor, whole: Tensor, layout: Layout, draw: torch.Generator | None = None) -> Tensor:
        """Return z^t [N, D] of each cell's region, the cell left out.

        Args:
            own: [N, D] z^n of each cell's niche without the cell.
            whole: [T, D] z^n of all niches of the regions.
            layout: where they lie.
            draw: chooses among the niches of a large region; None chooses evenly.
        """
        if self.tissue is None:
            raise RuntimeError("the model has no tissue level")
        index, mask = members(layout.region, layout.region[layout.niche], layout.niche, self.most_niches, draw)
        out: Tensor = self.tissue(own, layout.place[layout.niche], whole, layout.place, index, mask)
        return out


class FinalFusion(nn.Module):
    """The cell reads itself and what is around it: z = LN(z^c + MHA + FFN).

    What is read starts as it is, rotated: two usual layers one after the other would leave a third of it, and z would
    tell the cell alone for as long as these learn.

    Args:
        width: D.
        heads: of the attention.
        levels: of context.
        dropout: of both branches.
    """

    def __init__(self, width: int, heads: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.randn(1 + levels, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads)
        for layer in (self.attention.value, self.attention.out):
            nn.init.orthogonal_(layer.weight)
        self.feed = feed_forward(width, 2 * width)
        self.drop = nn.Dropout(dropout)

    def forward(self, cell: Tensor, context: list[Tensor], keep: Tensor | None = None) -> Tensor:
        """Return z [Q, D].

        Args:
            cell: [Q, D] z^c.
            context: [Q, D] of each level.
            keep: bool [Q, levels], False where a level is not read; None reads all.
        """
        tokens = torch.stack([cell, *context], dim=1) + self.level.to(cell.dtype)
        pad = None
        if keep is not None:
            pad = torch.cat([torch.zeros_like(keep[:, :1]), ~keep], dim=1)
            # Attention gives a token that is not read the weight 0, and 0 times a value that is not finite is not 0.
            tokens = tokens.masked_fill(pad[..., None], 0.0)
        normed = self.norms[0](tokens)
        mixed = cell + self.drop(self.attention(normed[:, :1], normed, pad)[:, 0])
        out: Tensor = self.norms[2](mixed + self.drop(self.feed(self.norms[1](mixed))))
        return out
