"""What a dataset yields: one record, or a batch of records.

`B` records, `C` channels, `S` side in pixels, `G` genes of the dataset's vocabulary, `N` counts of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One cell, or one tile of a grid scale.

    Attributes:
        key: `slide/cell_id`, or `slide/row_col` of a tile; unique in the dataset.
        slide: name.
        donor: whose tissue it is.
        record_id: `cell_id` or `row_col`.
        split: train, val, test or gap.
        xy_um: float32 [2], centre in micrometres.
        side_um: side of the square that the image shows, micrometres.
        image: uint8 [C, S, S]; None where not asked for.
        gene_index: int64 [n], ascending places in the vocabulary of the genes with counts; None unless sparse.
        gene_count: int32 [n], their counts; None unless sparse.
        genes: float32 [G], counts over the whole vocabulary; None unless dense.
        measured: bool [G], the genes on this slide's panel: where False, `genes` says nothing; None unless dense.
        metacell: row of the meta-cell vocabulary; None for a tile.
        tiles: coarser scale -> `row_col` of the tile that holds this record.
        labels: column -> the known label, None where unknown; empty for a tile.
    """

    key: str
    slide: str
    donor: str
    record_id: str
    split: str
    xy_um: Tensor
    side_um: float
    image: Tensor | None
    gene_index: Tensor | None
    gene_count: Tensor | None
    genes: Tensor | None
    measured: Tensor | None
    metacell: int | None
    tiles: Mapping[str, str]
    labels: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order asked for.

    Attributes:
        key: [B].
        slide: [B].
        donor: [B].
        record_id: [B].
        split: [B].
        xy_um: float32 [B, 2].
        side_um: float32 [B].
        image: uint8 [B, C, S, S]; a list of B tensors [C, S_i, S_i] at native size; None where not asked for.
        gene_index: int64 [N] of all records, one after the other; None unless sparse.
        gene_count: int32 [N]; None unless sparse.
        gene_offset: int64 [B + 1], where each record starts in `gene_index`; None unless sparse.
        genes: float32 [B, G]; None unless dense.
        measured: bool [B, G]; None unless dense.
        metacell: int64 [B]; None for tiles.
        tiles: coarser scale -> [B] `row_col`.
        labels: column -> [B].
    """

    key: Sequence[str]
    slide: Sequence[str]
    donor: Sequence[str]
    record_id: Sequence[str]
    split: Sequence[str]
    xy_um: Tensor
    side_um: Tensor
    image: Tensor | list[Tensor] | None
    gene_index: Tensor | None
    gene_count: Tensor | None
    gene_offset: Tensor | None
    genes: Tensor | None
    measured: Tensor | None
    metacell: Tensor | None
    tiles: Mapping[str, Sequence[str]]
    labels: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.key)

    def sample(self, i: int) -> Sample:
        """Return the i-th record by itself."""
        low, high = (0, 0) if self.gene_offset is None else self.gene_offset[i : i + 2].tolist()
        return Sample(
            key=self.key[i],
            slide=self.slide[i],
            donor=self.donor[i],
            record_id=self.record_id[i],
            split=self.split[i],
            xy_um=self.xy_um[i],
            side_um=float(self.side_um[i]),
            image=None if self.image is None else self.image[i],
            gene_index=None if self.gene_index is None else self.gene_index[low:high],
            gene_count=None if self.gene_count is None else self.gene_count[low:high],
            genes=None if self.genes is None else self.genes[i],
            measured=None if self.measured is None else self.measured[i],
            metacell=None if self.metacell is None else int(self.metacell[i]),
            tiles={scale: names[i] for scale, names in self.tiles.items()},
            labels={column: values[i] for column, values in self.labels.items()},
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Batch:
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = change(value)
            elif field.name == "image" and value is not None:
                moved[field.name] = [change(image) for image in value]
        return replace(self, **moved)
