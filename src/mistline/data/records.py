"""Turning decoded records into the arrays of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.data.images import resize_into
from mistline.data.transport import Arrays, Shapes
from mistline.store.codec import GeneRows, Packed


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
        return int(self.measured.shape[1])

    def find(self, slide: NDArray[np.int64], rows: GeneRows) -> NDArray[np.int64]:
        """Return [N] places in the vocabulary of the genes of records [B] of slides [B]."""
        start = self._start[slide]
        if len(slide) and (start == start[0]).all():
            return self._place[start[0] :].take(rows.index)
        return self._place.take(np.repeat(start, rows.length) + rows.index)


@dataclass(frozen=True, slots=True)
class Pile:
    """The records of a batch as they were read: checked, images still compressed.

    Attributes:
        index: [B] which records of the dataset they are.
        slide: [B] position of the slide of each.
        images: [B] records with the images; None where none is wanted.
        rows: the genes of all records; None where none is wanted.
        size: side that images are resized to, or native.
        form: of the genes.
        places: of the genes.
        n_channels: C.
    """

    index: NDArray[np.int64]
    slide: NDArray[np.int64]
    images: Sequence[Packed] | None
    rows: GeneRows | None
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
            wanted["pixels"] = ((sum([prod(record.shape) for record in self.images]),), np.uint8)
            wanted["side"] = ((n,), np.int64)
        if self.rows is not None and self.form == "dense":
            wanted["genes"] = ((n, self.places.n_genes), np.float32)
        elif self.rows is not None:
            wanted["gene_index"] = (self.rows.index.shape, np.int64)
            wanted["gene_count"] = (self.rows.count.shape, np.int32)
            wanted["gene_offset"] = ((n + 1,), np.int64)
        return wanted

    def fill(self, out: Arrays) -> None:
        """Write every array that `shapes` names."""
        out["index"][:] = self.index
        if "image" in out:
            for record, target in zip(self.images or (), out["image"], strict=True):
                resize_into(record.image(), target)
        elif self.images is not None:
            self._fill_ragged(self.images, out)
        if self.rows is not None:
            self._fill_genes(self.rows, out)

    def _fill_ragged(self, records: Sequence[Packed], out: Arrays) -> None:
        pixels, first = out["pixels"], 0
        for record in records:
            end = first + prod(record.shape)
            record.image(pixels[first:end])
            first = end
        out["side"][:] = [record.shape[2] for record in records]

    def _fill_genes(self, rows: GeneRows, out: Arrays) -> None:
        place, offset = self.places.find(self.slide, rows), np.concatenate([[0], np.cumsum(rows.length)])
        if "genes" in out:
            matrix = sparse.csr_array((rows.count.astype(np.float32), place, offset), shape=out["genes"].shape)
            matrix.toarray(out=out["genes"])
        else:
            out["gene_index"][:], out["gene_count"][:], out["gene_offset"][:] = place, rows.count, offset
