"""A sealed dataset as a torch `Dataset`: any scale, any split, images at any size, sparse or dense genes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mistline.core.errors import ConfigError, InputError
from mistline.data.genes import GeneTable, read_genes
from mistline.data.loader import Loader, Order
from mistline.data.records import Columns, Place, gather, gather_genes, gather_images
from mistline.data.sample import Batch, Sample
from mistline.data.tables import SPLITS, SlideTable, read_slide
from mistline.store.manifest import Manifest, read_manifest
from mistline.store.reader import ShardReader

Split = Literal["train", "val", "test", "gap"]
ImageSize = int | Literal["native"] | None
GeneForm = Literal["sparse", "dense"] | None


@dataclass(frozen=True, slots=True)
class View:
    """What of a dataset is read; the arguments of `open_dataset`."""

    scale: str = "cell"
    split: Split | None = None
    image_size: ImageSize = "native"
    genes: GeneForm = "sparse"
    slides: tuple[str, ...] | None = None


def open_dataset(
    path: Path | str,
    scale: str = "cell",
    split: Split | None = None,
    image_size: ImageSize = "native",
    genes: GeneForm = "sparse",
    slides: Sequence[str] | None = None,
) -> MistDataset:
    """Open a sealed dataset.

    Args:
        path: manifest.json, the folder that holds it, or the result folder.
        scale: cell, or the name of a grid scale.
        split: train, val, test or gap; None for all records. A tile is of its cells' split.
        image_size: side in pixels that images are resized to (area averaging when shrinking, bilinear when
            growing); `native` for the stored size, which differs from cell to cell; None for no images.
        genes: sparse (index, count) pairs, dense rows over the vocabulary, or None for no genes.
        slides: names of slides to read, in their order; None for all.

    Raises:
        InputError: the dataset is not there, changed, or incomplete.
        ConfigError: an argument names something the dataset does not have.
    """
    view = View(scale, split, image_size, genes, None if slides is None else tuple(slides))
    return MistDataset(read_manifest(Path(path)), view)


class MistDataset(Dataset[Sample]):
    """Records of one scale and split, slide after slide, each in the order of its files.

    Indexing gives a `Sample`, `__getitems__` (which a torch loader calls) a `Batch`; `loader` is the usual way to
    read it, and a torch loader of your own needs `collate_fn=mistline.data.as_is`. In memory are a few bytes a
    record; pixels and counts stay on disk. An instance pickles as its path.

    Args:
        manifest: of the dataset.
        view: what of it to read.

    Attributes:
        manifest: of the dataset; `manifest.version` is the dataset's version.
        view: what of it is read.
        genes: the vocabulary.
    """

    def __init__(self, manifest: Manifest, view: View) -> None:
        _check(manifest, view)
        self.manifest = manifest
        self.view = view
        names = list(manifest.slides)
        self.genes: GeneTable = read_genes(manifest.locate(manifest.content["genes"]["path"]), names)
        self._tables = [read_slide(manifest, slide, view.scale) for slide in view.slides or names]
        self._rows = [_rows_of(table, view.split) for table in self._tables]
        self._ends = np.cumsum([len(rows) for rows in self._rows], dtype=np.int64)
        self._places = [np.flatnonzero(self.genes.measured[table.slide]) for table in self._tables]
        self._label_names = sorted({name for table in self._tables for name in table.labels})
        self._readers: dict[int, ShardReader] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __reduce__(self) -> tuple[object, tuple[Path, str, View]]:
        return _reopen, (self.manifest.path.absolute(), self.manifest.version, self.view)

    def __getitem__(self, index: int) -> Sample:
        """Return one record.

        Raises:
            IndexError: no such record.
            InputError: it is missing in the shards or damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"no record {index}, the dataset has {len(self)}")
        return self.__getitems__([index % len(self)]).sample(0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return several records, in the order asked for.

        Raises:
            IndexError: no such record.
            InputError: one is missing in the shards or damaged.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"records {wanted.min()} .. {wanted.max()} asked for, the dataset has {len(self)}")
        which = np.searchsorted(self._ends, wanted, side="right")
        first = np.concatenate([[0], self._ends[:-1]])[which]
        row = np.array([self._rows[s][i] for s, i in zip(which, wanted - first, strict=True)], dtype=np.int64)
        place = Place(which, row)
        records = [self._reader(s)[key] for s, key in zip(which.tolist(), row.tolist(), strict=True)]
        genes = gather_genes(records, place, self._places, len(self.genes), self.view.genes)
        return Batch(
            **gather(Columns(self._tables, self._label_names), place),
            image=gather_images(records, self.view.image_size),
            **genes,
        )

    def loader(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        num_workers: int = 0,
        block: int = 1,
    ) -> Loader:
        """Return an iterable of batches; the same ones in the same order for any number of workers.

        Args:
            batch_size: records of a batch; the last one may be smaller.
            shuffle: draw the order from (seed, epoch); else the order of the files.
            seed: of the order.
            epoch: of the order; `loader.set_epoch` changes it later.
            num_workers: processes that read; 0 reads in this one.
            block: when shuffling, keep runs of so many neighbouring records together until they are mixed with
                those of 15 other runs: for data larger than memory on slow disks. 1 shuffles single records.
        """
        return Loader(self, Order(len(self), batch_size, shuffle, seed, block, epoch), num_workers)

    def _reader(self, slide: int) -> ShardReader:
        if slide not in self._readers:
            table = self._tables[slide]
            reader = ShardReader(table.shards)
            if len(reader) != len(table):
                what = f"the shards hold {len(reader)} records, their index {len(table)}"
                raise InputError(table.shards, what, "run the stage that cuts them, then seal_dataset")
            self._readers[slide] = reader
        return self._readers[slide]


def _reopen(path: Path, version: str, view: View) -> MistDataset:
    """Open again what was pickled, in a worker or another program."""
    manifest = read_manifest(path)
    if manifest.version != version:
        raise InputError(path, "the dataset was sealed anew since it was opened", "open it again")
    return MistDataset(manifest, view)


def _rows_of(table: SlideTable, split: str | None) -> NDArray[np.int32]:
    if split is None:
        return np.arange(len(table), dtype=np.int32)
    return np.flatnonzero(table.split == SPLITS.index(split)).astype(np.int32)


def _check(manifest: Manifest, view: View) -> None:
    """Refuse arguments that name what the dataset does not have."""
    if manifest.kind != "xenium":
        what = f"a dataset of {manifest.kind}, which has no records with images"
        raise InputError(manifest.path, what, "open the slides' counts.h5ad and cells.parquet instead")
    _check_known("scale", [view.scale], list(manifest.scales))
    _check_known("slides", view.slides or (), list(manifest.slides))
    _check_known("split", () if view.split is None else [view.split], list(SPLITS))
    _check_known("genes", () if view.genes is None else [view.genes], ["sparse", "dense"])
    size = view.image_size
    if view.slides == ():
        raise ConfigError("open_dataset: slides", "no slide is named", "name one, or give None for all")
    if not (size is None or size == "native" or (isinstance(size, int) and size > 0)):
        raise ConfigError("open_dataset: image_size", f"{size!r} is no size", "give pixels, 'native' or None")


def _check_known(argument: str, values: Sequence[str], known: list[str]) -> None:
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            remedy = f"did you mean {near[0]}" if near else f"choose from {', '.join(known)}"
            raise ConfigError(f"open_dataset: {argument}", f"unknown {value!r}", remedy)
