"""A part of the sealed dataset as models read it (`mistline.models.contract.Source`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np

from mistline.data import Loader, MistDataset, open_dataset
from mistline.models.contract import Batch, Needs, Source
from mistline.models.vocabulary import Vocabulary
from mistline.store.manifest import read_manifest
from mistline.train.tables import TableSource

_FEWEST_FOR_WORKERS = 20_000  # records below which starting processes costs more than they save


def open_source(
    manifest: Path,
    split: Literal["train", "val", "test"] | None = None,
    slides: Sequence[str] | None = None,
    workers: int = 0,
    scratch: Path | None = None,
) -> Source:
    """Open a part of a sealed dataset, of bundles or of tables; see `DatasetSource`."""
    if read_manifest(manifest).kind == "tables":
        return TableSource(manifest, split, slides)
    return DatasetSource(manifest, split, slides, workers, scratch)


class DatasetSource:
    """One split of all slides, or all cells of some.

    Args:
        manifest: of the sealed dataset.
        split: train, val, test; None for all records.
        slides: names; None for all.
        workers: processes that may read ahead; they change no batch.
        scratch: folder on this node's own disk that the shards which are read are copied to first; None for none.

    Attributes:
        genes: see `Source`.
        symbols: see `Source`.
        common_genes: see `Source`.
        panels: see `Source`.
        slides: see `Source`.
        channels: see `Source`.
        values: see `Source`.
    """

    values: Literal["counts", "normalised", "log"] = "counts"

    def __init__(
        self,
        manifest: Path,
        split: Literal["train", "val", "test"] | None = None,
        slides: Sequence[str] | None = None,
        workers: int = 0,
        scratch: Path | None = None,
    ) -> None:
        self._manifest = manifest
        self._split: Literal["train", "val", "test"] | None = split
        self._slides = slides
        self._workers = workers
        self._scratch = scratch
        self._opened: dict[Needs, MistDataset] = {}
        cells = self._open(Needs())
        self.genes = cells.genes.gene_ids
        self.symbols = cells.genes.symbols
        self.common_genes = tuple(compress(self.genes, cells.genes.common().tolist()))
        self.panels = cells.genes.measured
        self.slides = cells.slides
        self.channels = cells.channels

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Return the dataset's meta-cells, read when they are first asked for; see `Source`."""
        from mistline.mist.metacells import read_vocabulary  # with anndata, whose import takes longer than small jobs

        sealed = read_manifest(self._manifest)
        found = read_vocabulary(sealed.locate(sealed.content["metacells"]["path"]))
        levels = [np.asarray(found.levels[name], dtype=np.int64) for name in sorted(found.levels)]
        stacked = np.stack(levels, axis=1) if levels else np.zeros((len(found.c_expr), 0), dtype=np.int64)
        return Vocabulary(tuple(found.genes.gene_ids.tolist()), found.c_expr.astype(np.float32), stacked)

    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""
        return len(self._open(Needs(scale=scale)))

    def batches(
        self, needs: Needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield every record once; see `Source`."""
        yield from self._loader(needs, shuffle, (rank, world), skip)

    def n_batches(self, needs: Needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        """Return how many batches that yields; see `Source`."""
        return len(self._loader(needs, shuffle, (rank, world)))

    def _loader(self, needs: Needs, shuffle: int | None, part: tuple[int, int], skip: int = 0) -> Loader:
        dataset = self._open(needs)
        workers = self._workers if len(dataset) >= _FEWEST_FOR_WORKERS else 0
        return dataset.loader(
            needs.batch_size,
            shuffle=shuffle is not None,
            seed=shuffle or 0,
            num_workers=max(workers, 0),
            rank=part[0],
            world=part[1],
            start=skip,
            even=None if shuffle is None else "cut",
            group=needs.group,
        )

    def _open(self, needs: Needs) -> MistDataset:
        read = replace(needs, batch_size=1, group=None)  # what the batches are changes nothing of what is opened
        if read not in self._opened:
            self._opened[read] = open_dataset(
                self._manifest,
                scale=needs.scale,
                split=self._split,
                image_size={needs.scale: needs.image_size, **dict(needs.context)},
                genes=needs.genes,
                slides=self._slides,
                context=[scale for scale, _ in needs.context],
                scratch=self._scratch,
            )
        return self._opened[read]
