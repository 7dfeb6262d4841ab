"""A sealed dataset as a torch `Dataset`: any scale, any split, images at any size, sparse or dense genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mistline.core.errors import InputError
from mistline.data.genes import GeneTable, read_genes
from mistline.data.grouped import GroupOrder, tile_numbers
from mistline.data.loader import Loader
from mistline.data.order import Order, Plan
from mistline.data.reading import Around, ScaleReader
from mistline.data.sample import Batch, Context, Sample
from mistline.data.staging import stage
from mistline.data.transport import Allocate, Arrays, private
from mistline.data.view import GeneForm, Images, ImageSize, Split, View, check, of_scale
from mistline.store.manifest import Manifest, read_manifest


def open_dataset(
    path: Path | str,
    scale: str = "cell",
    split: Split | None = None,
    image_size: ImageSize | Mapping[str, ImageSize] = "native",
    genes: GeneForm | Mapping[str, GeneForm] = "sparse",
    slides: Sequence[str] | None = None,
    images: Images = "morphology",
    context: Sequence[str] = (),
    scratch: Path | str | None = None,
) -> MistDataset:
    """Open a sealed dataset.

    Args:
        path: manifest.json, the folder that holds it, or the result folder.
        scale: cell, or the name of a grid scale.
        split: train, val, test or gap; None for all records. A tile is of its cells' split.
        image_size: side in pixels that images are resized to (area averaging when shrinking, bilinear when
            growing); `native` for the stored size, which differs from cell to cell (`Batch.resized` resizes such
            images later); None for no images. With `context`, a mapping may say it for each scale.
        genes: sparse (index, count) pairs, dense rows over the vocabulary, or None for no genes; or a mapping.
        slides: names of slides to read, in their order; None for all.
        images: `morphology`, or `he` for the registered H&E (red, green, blue); records beyond its border are left
            out, and logged.
        context: coarser scales whose tile around each record comes with it, such as ("niche", "region").
        scratch: a folder on this node's own disk that the shards are copied to first; None reads them in place.

    Raises:
        InputError: the dataset is not there, changed, or incomplete.
        ConfigError: an argument names something the dataset does not have.
        ResourceError: the scratch folder has too little space.
    """
    chosen = None if slides is None else tuple(slides)
    views = [
        View(
            name,
            image_size=of_scale("image_size", image_size, name),  # type: ignore[arg-type]
            genes=of_scale("genes", genes, name),  # type: ignore[arg-type]
            slides=chosen,
            images=images,
        )
        for name in (scale, *context)
    ]
    place = None if scratch is None else Path(scratch)
    view = replace(views[0], split=split, context=tuple(views[1:]), scratch=place)
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
        channels: of the images, by name.
        slides: names of those with a record here.
    """

    def __init__(self, manifest: Manifest, view: View) -> None:
        check(manifest, view)
        self.manifest = manifest
        self.view = view
        self.channels = view.channels(manifest)
        names = list(manifest.slides)
        self.genes: GeneTable = read_genes(manifest.locate(manifest.content["genes"]["path"]), names)
        copies = {} if view.scratch is None else stage(view.folders(manifest), view.scratch)
        self._reader = ScaleReader(manifest, view, self.genes, copies)
        self.slides = self._reader.columns.slides
        self._around = {
            around.scale: Around(self._reader.columns, ScaleReader(manifest, around, self.genes, copies, complete=True))
            for around in view.context
        }

    def __len__(self) -> int:
        return len(self._reader.columns)

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
        return self.assemble({name: torch.from_numpy(array) for name, array in self.load(indices).items()})

    def load(self, indices: Sequence[int], allocate: Allocate = private) -> Arrays:
        """Read what of several records lies in shards: the work of a worker process.

        Args:
            indices: of the records.
            allocate: gives memory for the arrays.

        Raises:
            IndexError: no such record.
            InputError: one is missing in the shards or damaged.
        """
        index = np.asarray(indices, dtype=np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"records {index.min()} .. {index.max()} asked for, the dataset has {len(self)}")
        place = self._reader.columns.place(index)
        piles, rows = {"": self._reader.pile(index, *place)}, {}
        for scale, around in self._around.items():
            piles[f"{scale}/"], rows[f"{scale}/row"] = around.pile(*place)
        shapes = {f"{prefix}{name}": of for prefix, pile in piles.items() for name, of in pile.shapes().items()}
        arrays = allocate(shapes | {name: (row.shape, row.dtype) for name, row in rows.items()})
        for prefix, pile in piles.items():
            pile.fill({name: arrays[f"{prefix}{name}"] for name in pile.shapes()})
        for name, row in rows.items():
            arrays[name][:] = row
        return arrays

    def assemble(self, tensors: Mapping[str, Tensor]) -> Batch:
        """Return the batch of what `load` read, here or in a worker process."""
        context = {}
        for scale, around in self._around.items():
            prefix = f"{scale}/"
            of_tiles = {name.removeprefix(prefix): of for name, of in tensors.items() if name.startswith(prefix)}
            context[scale] = Context(around.reader.assemble(of_tiles, {}), of_tiles["row"])
        return self._reader.assemble(tensors, context)

    def loader(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        num_workers: int = 0,
        block: int | Literal["auto"] = 1,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        even: Literal["cut", "drop", "repeat"] | None = None,
        group: str | None = None,
    ) -> Loader:
        """Return an iterable of batches; the same ones in the same order for any number of workers.

        Args:
            batch_size: records of a batch; the last one may be smaller.
            shuffle: draw the order from (seed, epoch); else the order of the files.
            seed: of the order.
            epoch: of the order; `loader.set_epoch` changes it later.
            num_workers: processes that read; 0 reads in this one.
            block: when shuffling, keep runs of so many neighbouring records together until they are mixed with
                those of 15 other runs: for data larger than memory, where reading records here and there is many
                times slower than reading on. No run crosses two slides or shard files. `auto` takes runs of about
                1 MiB; 1 shuffles single records.
            rank: which part of the epoch; of single records every `world`-th, of blocks whole ones, not shuffled a
                contiguous part. All parts together hold every record once.
            world: number of parts, such as processes that train together.
            start: first batch to give, for going on where a run was interrupted.
            even: None: the parts may have different numbers of batches (one more or less; with blocks, those of a
                block). Training in step needs equal numbers: `cut` leaves out what the shortest part has no batch
                for, `drop` leaves the ends out and `repeat` fills them with records of the same part's beginning,
                so that all batches are full.
            group: a coarser scale; when shuffling, the records of one of its tiles come in one batch, which holds
                as many whole tiles as `batch_size` allows. A larger tile is cut, along the tiles of `context` where
                they are finer. Every rank has equally many batches, and `block` and `even` say nothing.

        Raises:
            ValueError: an argument is out of range.
            ConfigError: the records' scale has no such coarser scale.
        """
        if group is not None and shuffle:
            plan = Plan(batch_size, shuffle, seed, rank=rank, world=world)
            finer = [scale for scale in self._around if scale != group]
            whole, cut = (tile_numbers(self._reader.tiles(scale)) for scale in (group, finer[0] if finer else group))
            return Loader(self, GroupOrder(whole, cut, plan, epoch, start), num_workers)
        length = self.view.run_length(self.manifest) if block == "auto" else block
        plan = Plan(batch_size, shuffle, seed, length, rank, world, even)
        ends = self._reader.stretches() if shuffle and length > 1 else [len(self)]
        return Loader(self, Order(ends, plan, epoch, start), num_workers)


def _reopen(path: Path, version: str, view: View) -> MistDataset:
    """Open again what was pickled, in a worker or another program."""
    manifest = read_manifest(path)
    if manifest.version != version:
        raise InputError(path, "the dataset was sealed anew since it was opened", "open it again")
    return MistDataset(manifest, view)
