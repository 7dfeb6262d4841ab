"""The encoded cells of a split as generators of images read them: a part of `mistline.models.contract.Source`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.data.order import Order, Plan
from mistline.models.contract import Needs
from mistline.store.latents import Encoded, LatentReader


@dataclass(frozen=True, slots=True)
class LatentBatch:
    """Encoded cells in the order asked for.

    Attributes:
        slide: [B] names.
        donor: [B] whose tissue it is.
        record_id: [B] `cell_id`.
        xy_um: float32 [B, 2] centre, micrometres.
        side_um: float32 [B] side of the square that the image shows.
        mean: float32 [B, c, h, w] of the latents.
        std: float32 [B, c, h, w].
        tokens: float32 [B, R, T, D] by reading and token; those that are not `present` are 0.
    """

    slide: Sequence[str]
    donor: Sequence[str]
    record_id: Sequence[str]
    xy_um: Tensor
    side_um: Tensor
    mean: Tensor
    std: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.record_id)


class Numbered(ABC):
    """What of a `mistline.models.contract.Source` follows from reading records by their numbers."""

    @abstractmethod
    def read(self, rows: NDArray[np.int64]) -> LatentBatch:
        """Return some records; `rows` is [B], in any order."""

    @abstractmethod
    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""

    def batches(
        self, needs: Needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[LatentBatch]:
        """Yield every record once; see `Source`."""
        order = self._order(needs, shuffle, rank, world)
        order.start = skip
        for rows in order:
            yield self.read(np.array(rows, dtype=np.int64))

    def n_batches(self, needs: Needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        """Return how many batches that yields; see `Source`."""
        return self._order(needs, shuffle, rank, world).n_batches

    def _order(self, needs: Needs, shuffle: int | None, rank: int, world: int) -> Order:
        _refuse(needs)
        even: Literal["cut"] | None = None if shuffle is None else "cut"
        plan = Plan(needs.batch_size, shuffle is not None, shuffle or 0, rank=rank, world=world, even=even)
        return Order([self.count()], plan)


class LatentSource(Numbered):
    """One split of the encoded cells of some slides.

    Args:
        folders: slide -> its folder of `encode_cells`, in the order of the cells.
        split: whose cells; slides without any are as if they were not there.

    Attributes:
        origin: what the cells are made from; the same for all slides.
        latent_shape: (c, h, w).
        token_shape: (R, T, D).
        present: [R][T] which tokens are given.
        slides: those with a cell of the split.
        cells: [n] table of the cells of the split, as `store.latents.LatentReader.cells`.

    Raises:
        InputError: a folder is missing, damaged or of another slide, or two were made by other models or of another
            dataset.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, folders: Mapping[str, Path], split: Literal["train", "val", "test"]) -> None:
        self._readers = [LatentReader(path) for path in folders.values()]
        if not self._readers:
            raise ValueError("no folder of latents")
        first = self._readers[0]
        self.origin, self.latent_shape, self.token_shape = first.origin, first.latent_shape, first.token_shape
        self.present = first.origin.present
        parts = []
        for number, (slide, reader) in enumerate(zip(folders, self._readers, strict=True)):
            _check(slide, reader, first)
            own = reader.cells[reader.cells["split"] == split]
            parts.append(own.assign(folder=number, key=own.index.to_numpy()))
        cells = pd.concat(parts, ignore_index=True)
        self._folder, self._key = (cells.pop(name).to_numpy(dtype=np.int64) for name in ("folder", "key"))
        self.cells = cells
        self.slides = tuple(cells["slide"].unique().tolist())

    def count(self, scale: str = "cell") -> int:
        """Return the number of cells."""
        _refuse(Needs(scale=scale))
        return len(self.cells)

    def read(self, rows: NDArray[np.int64]) -> LatentBatch:
        """Return some cells.

        Args:
            rows: [B] of `cells`, in any order.
        """
        found = self._read(self._folder[rows], self._key[rows])
        cells = self.cells.iloc[rows]
        return LatentBatch(
            slide=cells["slide"].tolist(),
            donor=cells["donor"].tolist(),
            record_id=cells["cell_id"].tolist(),
            xy_um=torch.from_numpy(cells[["x_um", "y_um"]].to_numpy(dtype=np.float32)),
            side_um=torch.from_numpy(cells["side_um"].to_numpy(dtype=np.float32)),
            mean=torch.from_numpy(found.mean),
            std=torch.from_numpy(found.std),
            tokens=torch.from_numpy(found.tokens),
        )

    def _read(self, folder: NDArray[np.int64], key: NDArray[np.int64]) -> Encoded:
        """Return cells by folder and key; a folder's in the order of their keys, which is read fastest."""
        n, latent = len(folder), self.latent_shape
        shapes = ((n, *latent), (n, *latent), (n, *self.token_shape))
        out = Encoded(*(np.empty(shape, dtype=np.float32) for shape in shapes))
        for number in np.unique(folder).tolist():
            own = np.flatnonzero(folder == number)
            own = own[np.argsort(key[own], kind="stable")]
            found = self._readers[number].read(key[own])
            out.mean[own], out.std[own], out.tokens[own] = found.mean, found.std, found.tokens
        return out


def _refuse(needs: Needs) -> None:
    """Refuse what encoded cells cannot give: only a mistake of a model asks for it."""
    if needs.scale != "cell" or needs.image_size or needs.genes or needs.group or needs.context:
        raise ValueError(f"encoded cells give latents and tokens, not {needs}")


def _check(slide: str, reader: LatentReader, first: LatentReader) -> None:
    remedy = "run encode_cells for all slides with the same models and dataset"
    if set(reader.cells["slide"]) != {slide}:
        what = f"it holds cells of {', '.join(sorted(set(reader.cells['slide'])))}, not of {slide}"
        raise InputError(reader.folder, what, "give each slide its own folder")
    same = (reader.origin, reader.latent_shape, reader.token_shape)
    if same != (first.origin, first.latent_shape, first.token_shape):
        raise InputError(reader.folder, f"made by other models, or of another dataset, than {first.folder}", remedy)
