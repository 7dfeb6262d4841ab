"""A batch as the network takes it: cells, the niches and regions around them, and how they lie.

`B` cells, `T` niches, `R` regions, `C` channels, `S` side of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mistline.models.contract import Batch
from mistline.models.spatia.context import Layout
from mistline.models.spatia.gene_tokens import SparseGenes, sparse


@dataclass(frozen=True, slots=True)
class Records:
    """What is read of cells, or of tiles.

    Args:
        side_um: float32 [B] side of the square shown.
        image: uint8 [B, C, S, S]; None for none.
        genes: their counts; None for none.
    """

    side_um: Tensor
    image: Tensor | None
    genes: SparseGenes | None

    def __len__(self) -> int:
        return len(self.side_um)

    def to(self, device: str | torch.device) -> Records:
        """Return them on a device."""
        moved = {item.name: getattr(self, item.name) for item in fields(self)}
        return Records(**{name: None if of is None else of.to(device) for name, of in moved.items()})


@dataclass(frozen=True, slots=True)
class Inputs:
    """A training batch.

    Args:
        cells: B of them.
        niche: the T tiles around them; None for a model of cells only.
        tissue: the R tiles around those; None for a model without.
        layout: how they lie; None for a model of cells only.
        classes: int64 [B, K] labels as `class_heads.numbers` gives them; None where none are read.
    """

    cells: Records
    niche: Records | None = None
    tissue: Records | None = None
    layout: Layout | None = None
    classes: Tensor | None = None

    def to(self, device: str | torch.device) -> Inputs:
        """Return it on a device."""
        classes = None if self.classes is None else self.classes.to(device)
        if self.layout is None:
            return replace(self, cells=self.cells.to(device), classes=classes)
        where = {item.name: getattr(self.layout, item.name).to(device) for item in fields(Layout)}
        tissue = None if self.tissue is None else self.tissue.to(device)
        niche = None if self.niche is None else self.niche.to(device)
        return Inputs(self.cells.to(device), niche, tissue, Layout(**where), classes)


def records(batch: Any, panel: Tensor, place: Tensor | None = None, rows: slice | None = None) -> Records:
    """Return what is read of a batch, or of some of its rows.

    Args:
        batch: see `contract.Batch`.
        panel: int64 [B] the panel of each record.
        place: int64 [G] of the batch's genes in the model's vocabulary, -1 for none; None where they are the same.
        rows: those asked for; None for all.
    """
    low, high, _ = (rows or slice(None)).indices(len(batch.side_um))
    genes = None
    if batch.gene_index is not None:
        offset = batch.gene_offset[low : high + 1]
        index = batch.gene_index[int(offset[0]) : int(offset[-1])]
        count = batch.gene_count[int(offset[0]) : int(offset[-1])]
        genes = sparse(index if place is None else place[index], count, offset, panel[low:high])
    image = None if batch.image is None else batch.image[low:high]
    return Records(batch.side_um[low:high].float(), image, genes)


def around(batch: Batch, niche: str, tissue: str | None, panel: Sequence[Tensor]) -> dict[str, Any]:
    """Return what `Inputs` holds besides the cells.

    A niche that lies in two regions, as with scales that do not nest, counts for the one with the larger number.

    Args:
        batch: with the context of these scales.
        niche: scale of the niches.
        tissue: scale of the regions; None for a model without.
        panel: int64 [T] and [R] the panels of the tiles.
    """
    tiles, row = batch.context[niche].tiles, batch.context[niche].row
    n_niches = len(tiles.side_um)
    in_region, place = torch.zeros(n_niches, dtype=torch.int64), torch.zeros(n_niches, 2)
    regions = None
    if tissue is not None:
        above = batch.context[tissue]
        in_region.scatter_reduce_(0, row, above.row, "amax", include_self=True)
        place = grid_place(tiles, above.tiles.xy_um[in_region], above.tiles.side_um[in_region])
        regions = records(above.tiles, panel[1])
    has_image = torch.full((n_niches,), tiles.image is not None)
    layout = Layout(row, batch.xy_um - tiles.xy_um[row], in_region, place, has_image)
    return {"niche": records(tiles, panel[0]), "tissue": regions, "layout": layout}


def grid_place(tiles: Batch, region_xy_um: Tensor, region_side_um: Tensor) -> Tensor:
    """Return float32 [T, 2], column and row of niches in their regions.

    Args:
        tiles: T niches.
        region_xy_um: [T, 2] centre of the region of each.
        region_side_um: [T] its side.
    """
    corner = region_xy_um - region_side_um[:, None] / 2
    return ((tiles.xy_um - corner) / tiles.side_um[:, None]).floor()


def tile_codes(names: Sequence[str]) -> np.ndarray:
    """Return int64 numbers of tiles `row_col`, in their order."""
    return np.array([(int(row) << 32) + int(col) for row, col in (name.split("_") for name in names)], dtype=np.int64)
