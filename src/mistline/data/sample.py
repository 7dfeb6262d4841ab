"""What a dataset yields: one record, or a batch of records.

`B` records, `C` channels, `S` side in pixels, `G` genes of the dataset's vocabulary, `N` counts of a batch,
`T` tiles that hold the records of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from mistline.data.columns import Names
from mistline.data.images import resize
from mistline.data.ragged import Ragged


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
        context: coarser scale -> the tile that holds this record; empty where not asked for.
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
    context: Mapping[str, Sample] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """The tiles of one scale that hold the records of a batch; neighbours share one.

    Attributes:
        tiles: [T] each tile once, in the order of the files.
        row: int64 [B], which of them holds each record: `context.tiles.image[context.row]` is [B, C, S, S].
    """

    tiles: Batch
    row: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order asked for.

    Attributes:
        names: looked up when one of the properties below is first asked for.
        xy_um: float32 [B, 2].
        side_um: float32 [B].
        metacell: int64 [B]; None for tiles.
        image: uint8 [B, C, S, S]; `Ragged` at native size; None where not asked for.
        gene_index: int64 [N] of all records, one after the other; None unless sparse.
        gene_count: int32 [N]; None unless sparse.
        gene_offset: int64 [B + 1], where each record starts in `gene_index`; None unless sparse.
        genes: float32 [B, G]; None unless dense.
        measured: bool [B, G]; None unless dense.
        context: coarser scale -> the tiles around the records; empty where not asked for.
    """

    names: Names = field(repr=False)
    xy_um: Tensor
    side_um: Tensor
    metacell: Tensor | None = None
    image: Tensor | Ragged | None = None
    gene_index: Tensor | None = None
    gene_count: Tensor | None = None
    gene_offset: Tensor | None = None
    genes: Tensor | None = None
    measured: Tensor | None = None
    context: Mapping[str, Context] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def key(self) -> Sequence[str]:
        """[B] `slide/cell_id`, or `slide/row_col`."""
        return self.names["key"]

    @property
    def slide(self) -> Sequence[str]:
        """[B]."""
        return self.names["slide"]

    @property
    def donor(self) -> Sequence[str]:
        """[B]."""
        return self.names["donor"]

    @property
    def record_id(self) -> Sequence[str]:
        """[B] `cell_id` or `row_col`."""
        return self.names["record_id"]

    @property
    def split(self) -> Sequence[str]:
        """[B]."""
        return self.names["split"]

    @property
    def tiles(self) -> Mapping[str, Sequence[str]]:
        """Coarser scale -> [B] `row_col`."""
        return self.names["tiles"]

    @property
    def labels(self) -> Mapping[str, Sequence[Any]]:
        """Column -> [B]."""
        return self.names["labels"]

    def sample(self, i: int) -> Sample:
        """Return the i-th record by itself."""
        i = range(len(self))[i]
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
            context={scale: around.tiles.sample(int(around.row[i])) for scale, around in self.context.items()},
        )

    def resized(self, size: int) -> Batch:
        """Return the batch with its native images resized, where they lie: cv2 in main memory, torch on a device.

        In main memory the pixels are those of `open_dataset(..., image_size=size)`; on a device none differs by
        more than 1 grey level. Tiles in `context` are batches of their own: resize them there.
        """
        if not isinstance(self.image, Ragged):
            raise ValueError("only images at native size can be resized: open the dataset with image_size='native'")
        return replace(self, image=resize(self.image, size))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {}
        for name in (item.name for item in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                moved[name] = change(value)
            elif isinstance(value, Ragged):
                moved[name] = value.each(change)
        moved["context"] = {
            scale: Context(around.tiles._each(change), change(around.row)) for scale, around in self.context.items()
        }
        return replace(self, **moved)
