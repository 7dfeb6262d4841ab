"""Turning decoded records into the arrays of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mistline.data.images import resize_into
from mistline.data.transport import Arrays, Shapes
from mistline.store.codec import Record


class GenePlaces:
    """Where each slide's genes lie in the vocabulary of `G` genes.

    Args:
        measured: of each slide, bool [G]; its own genes are in the vocabulary's order.
    """

    def __init__(self, measured: Sequence[NDArray[np.bool_]]) -> None:
        self.measured = np.array(measured)
        places = [np.flatnonzero(on_slide) for on_slide in measured]
        self._place = np.concatenate(places)
        self._start = np.cumsum([0, *map(len, places[:-1])])

    @property
    def n_genes(self) -> int:
        """G."""
        return self.measured.shape[1]

    def find(self, slide: NDArray[np.int64], gene: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return [N] places in the vocabulary of genes [N] numbered by their slide [N]."""
        return self._place[self._start[slide] + gene]


@dataclass(frozen=True, slots=True)
class Pile:
    """The records of a batch as they were read.

    Attributes:
        index: [B] which records of the dataset they are.
        slide: [B] position of the slide of each.
        images: [B] records with pixels; None where no image is wanted.
        genes: [B] records with counts; None where no gene is wanted.
        size: side that images are resized to, or native.
        form: of the genes.
        places: of the genes.
        n_channels: C.
    """

    index: NDArray[np.int64]
    slide: NDArray[np.int64]
    images: Sequence[Record] | None
    genes: Sequence[Record] | None
    size: int | Literal["native"] | None
    form: Literal["sparse", "dense"] | None
    places: GenePlaces
    n_channels: int

    def shapes(self) -> Shapes:
        """Return which arrays the batch has."""
        n = len(self.index)
        wanted: dict[str, tuple[tuple[int, ...], type]] = {"index": ((n,), np.int64)}
        if self.images is not None and isinstance(self.size, int):
            wanted["image"] = ((n, self.n_channels, self.size, self.size), np.uint8)
        elif self.images is not None:
            wanted["pixels"] = ((sum(record.image.size for record in self.images),), np.uint8)
            wanted["side"] = ((n,), np.int64)
        if self.genes is not None and self.form == "dense":
            wanted["genes"] = ((n, self.places.n_genes), np.float32)
        elif self.genes is not None:
            n_counts = sum(len(record.gene_index) for record in self.genes)
            wanted["gene_index"] = ((n_counts,), np.int64)
            wanted["gene_count"] = ((n_counts,), np.int32)
            wanted["gene_offset"] = ((n + 1,), np.int64)
        return wanted

    def fill(self, out: Arrays) -> None:
        """Write every array that `shapes` names."""
        out["index"][:] = self.index
        if self.images:
            self._fill_images(self.images, out)
        if self.genes is not None:
            self._fill_genes(self.genes, out)

    def _fill_images(self, records: Sequence[Record], out: Arrays) -> None:
        if "image" in out:
            for record, target in zip(records, out["image"], strict=True):
                resize_into(record.image, target)
        else:
            np.concatenate([record.image.reshape(-1) for record in records], out=out["pixels"])
            out["side"][:] = [record.image.shape[-1] for record in records]

    def _fill_genes(self, records: Sequence[Record], out: Arrays) -> None:
        lengths = np.array([len(record.gene_index) for record in records], dtype=np.int64)
        gene = np.concatenate([np.empty(0, np.uint16), *(record.gene_index for record in records)])
        count = np.concatenate([np.empty(0, np.int32), *(record.gene_count for record in records)])
        place = self.places.find(np.repeat(self.slide, lengths), gene)
        if "genes" in out:
            out["genes"].fill(0)
            out["genes"][np.repeat(np.arange(len(records)), lengths), place] = count
        else:
            out["gene_index"][:], out["gene_count"][:] = place, count
            out["gene_offset"][0] = 0
            np.cumsum(lengths, out=out["gene_offset"][1:])
