"""Reading the records of one scale: first numbers, wherever they are wanted, then a batch around them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import ConfigError, InputError
from mistline.data.columns import Columns, Names, parts
from mistline.data.genes import GeneTable
from mistline.data.ragged import Ragged
from mistline.data.records import GenePlaces, Pile
from mistline.data.sample import Batch, Context
from mistline.data.tables import SPLITS, SlideTable, read_slide
from mistline.data.view import View
from mistline.store.codec import gene_rows
from mistline.store.manifest import Manifest
from mistline.store.reader import ShardReader

logger = logging.getLogger("mistline.data")

Place = NDArray[np.int64]
Wanted = list[Any] | None


class ScaleReader:
    """The records of one view.

    Args:
        manifest: of the dataset.
        view: scale, split and what of each record.
        genes: the vocabulary.
        copies: shard folder -> its copy on this node's disk; empty for none.
        complete: take every record, also one that the H&E does not show.

    Attributes:
        view: as given.
        columns: what is known of the records besides their shards.
    """

    def __init__(
        self, manifest: Manifest, view: View, genes: GeneTable, copies: Mapping[Path, Path], complete: bool = False
    ) -> None:
        self.view = view
        slides = view.slides or tuple(manifest.slides)
        of_he = view.images == "he" and not complete
        tables = [read_slide(manifest, slide, view.scale, of_he) for slide in slides]
        self.columns = Columns(tables, [_rows(table, view.split) for table in tables])
        self._n_channels = len(view.channels(manifest))
        self._places = GenePlaces([genes.measured[slide] for slide in slides])
        self._folders = [
            {use: copies.get(folder.path, folder.path) for use, folder in view.shards(manifest, slide).items()}
            for slide in slides
        ]
        self._open: dict[Path, ShardReader] = {}

    def pile(self, index: Place, slide: Place, row: Place) -> Pile:
        """Read records.

        Args:
            index: [B] which.
            slide: [B] where they lie, see `Columns.place`.
            row: [B].

        Raises:
            InputError: one is missing in the shards or damaged.
        """
        images: Wanted = [None] * len(index) if self.view.image_size is not None else None
        genes: Wanted = [None] * len(index) if self.view.genes is not None else None
        turn = np.argsort(index, kind="stable")  # shards are read forwards
        for number, at in parts(slide[turn]):
            here = turn[at]
            keys = row[here].tolist()
            places = here.tolist()
            for folder, wanted in self._reads(number, images, genes):
                pixels = any(target is images for target in wanted)
                for place, record in zip(places, self._reader(number, folder).packed(keys, pixels), strict=True):
                    for target in wanted:
                        target[place] = record
        rows = None if genes is None else gene_rows(genes)
        return Pile(index, slide, images, rows, self.view.image_size, self.view.genes, self._places, self._n_channels)

    def assemble(self, tensors: Mapping[str, Tensor], context: Mapping[str, Context]) -> Batch:
        """Return the batch that the arrays of a pile make."""
        slide, row = self.columns.place(tensors["index"].numpy())
        image: Tensor | Ragged | None = tensors.get("image")
        if "pixels" in tensors:
            image = Ragged(tensors["pixels"], tensors["side"], self._n_channels)
        genes = {name: tensors.get(name) for name in ("gene_index", "gene_count", "gene_offset", "genes")}
        measured = torch.from_numpy(self._places.measured[slide]) if "genes" in tensors else None
        names, numbers = Names(self.columns, slide, row), self.columns.numbers(slide, row)
        return Batch(names, **numbers, image=image, **genes, measured=measured, context=context)  # type: ignore[arg-type]

    def tiles(self, scale: str) -> list[tuple[NDArray[np.int64], int]]:
        """Return, of each slide, which tile of a coarser scale holds each record, and the number of tiles.

        Raises:
            ConfigError: the records' scale has no such coarser scale.
        """
        found = []
        for table, rows in zip(self.columns.tables, self.columns.rows, strict=True):
            if scale not in table.tiles:
                what = f"no {scale} tile is known around these records"
                raise ConfigError("loader: group", what, f"choose from {', '.join(table.tiles) or 'none'}")
            names = table.tiles[scale]
            found.append((names.indices.to_numpy()[rows].astype(np.int64), len(names.dictionary)))
        return found

    def stretches(self) -> list[int]:
        """Return, ascending, one past the last record of each shard file: records between two lie together on disk."""
        ends: set[int] = set()
        first = 0
        for number, rows in enumerate(self.columns.rows):
            folder = next(iter(self._folders[number].values()), None)
            keys = () if folder is None else self._reader(number, folder).ends
            ends.update(int(first + end) for end in np.searchsorted(rows, keys))
            first += len(rows)
            ends.add(first)
        return sorted(ends)

    def _reads(self, number: int, images: Wanted, genes: Wanted) -> list[tuple[Path, list[list[Any]]]]:
        """Return the folders to read of a slide, each with the lists that its records go to."""
        reads: dict[Path, list[list[Any]]] = {}
        for use, folder in self._folders[number].items():
            target = images if use == "images" else genes
            reads.setdefault(folder, []).extend([] if target is None else [target])
        return list(reads.items())

    def _reader(self, number: int, folder: Path) -> ShardReader:
        if folder not in self._open:
            reader = ShardReader(folder)
            n = len(self.columns.tables[number])
            if len(reader) != n:
                what = f"the shards hold {len(reader)} records, their index {n}"
                raise InputError(folder, what, "run the stage that cuts them, then seal_dataset")
            self._open[folder] = reader
        return self._open[folder]


class Around:
    """Finds the tile of a coarser scale that holds a record.

    Args:
        columns: of the records.
        reader: of the tiles, all of them, of the same slides.

    Raises:
        ConfigError: the records' scale has no such coarser scale.
        InputError: a record points to a tile that does not exist.
    """

    def __init__(self, columns: Columns, reader: ScaleReader) -> None:
        self.reader = reader
        self._tile: list[NDArray[np.int32]] = []
        scale = reader.view.scale
        for table, tiles in zip(columns.tables, reader.columns.tables, strict=True):
            if scale not in table.tiles:
                what = f"no {scale} tile is known around these records"
                raise ConfigError("open_dataset: context", what, f"choose from {', '.join(table.tiles) or 'none'}")
            names = table.tiles[scale]
            known = pc.index_in(names.dictionary, tiles.ids)
            if known.null_count:
                where = f"slide {table.slide}, {scale}"
                raise InputError(where, "records point to tiles that do not exist", "run cut_tiles again")
            self._tile.append(np.asarray(known.to_numpy(), dtype=np.int32)[names.indices.to_numpy()])

    def pile(self, slide: Place, row: Place) -> tuple[Pile, Place]:
        """Read the tiles around records, each once.

        Returns:
            The tiles, in the order of the files, and [B] which of them holds each record.
        """
        index = np.empty(len(row), dtype=np.int64)
        for number, at in parts(slide):
            first = self.reader.columns.ends[number - 1] if number else 0
            index[at] = first + self._tile[number][row[at]]
        tiles, which = np.unique(index, return_inverse=True)
        return self.reader.pile(tiles, *self.reader.columns.place(tiles)), which


def _rows(table: SlideTable, split: str | None) -> NDArray[np.int32]:
    """Return the rows that a view reads: of its split, and shown by the H&E where that is read."""
    wanted = np.ones(len(table), dtype=bool) if split is None else table.split == SPLITS.index(split)
    if table.shown is not None:
        beyond = int((wanted & ~table.shown).sum())
        if beyond:
            logger.info("slide %s: %d records lie beyond the H&E and are left out", table.slide, beyond)
        wanted = wanted & table.shown
    return np.flatnonzero(wanted).astype(np.int32)
