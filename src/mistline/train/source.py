"""A part of the sealed dataset as models read it (`mistline.models.contract.Source`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Literal

from mistline.data import MistDataset, open_dataset
from mistline.models.contract import Batch, Needs, Source
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
        common_genes: see `Source`.
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
        self.common_genes = tuple(compress(self.genes, cells.genes.common().tolist()))
        self.channels = cells.channels

    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""
        return len(self._open(Needs(scale=scale)))

    def batches(self, needs: Needs, shuffle: int | None = None) -> Iterator[Batch]:
        """Yield every record once; see `Source`."""
        dataset = self._open(needs)
        workers = self._workers if len(dataset) >= _FEWEST_FOR_WORKERS else 0
        yield from dataset.loader(
            needs.batch_size, shuffle=shuffle is not None, seed=shuffle or 0, num_workers=max(workers, 0)
        )

    def _open(self, needs: Needs) -> MistDataset:
        if needs not in self._opened:
            self._opened[needs] = open_dataset(
                self._manifest,
                scale=needs.scale,
                split=self._split,
                image_size=needs.image_size,
                genes=needs.genes,
                slides=self._slides,
                scratch=self._scratch,
            )
        return self._opened[needs]
