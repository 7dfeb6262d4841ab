"""A part of a sealed cohort of tables as models read it (`mistline.models.contract.Source`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.data.columns import Names
from mistline.data.genes import read_genes
from mistline.data.order import Order, Plan
from mistline.data.sample import Batch
from mistline.mist.expression import CountsFile
from mistline.mist.labels import PREFIX
from mistline.models.contract import Needs
from mistline.models.vocabulary import Vocabulary
from mistline.store.manifest import Manifest, read_manifest
from mistline.train.patches import CHANNELS, PatchImages

_READ_CELLS = "read_cells or read_table for this slide"


@dataclass(frozen=True, slots=True)
class _Slide:
    """The cells of one slide that belong to the part.

    Attributes:
        name, donor: of the slide.
        rows: [n] their rows in the slide's files, rising.
        cells: [n] cell_id, x_um, y_um, split and labels.
        counts: its counts.h5ad.
        places: [g] where its genes lie in the vocabulary.
        images: of all its cells; None where the table has no image.
    """

    name: str
    donor: str
    rows: NDArray[np.int64]
    cells: pd.DataFrame
    counts: Path
    places: NDArray[np.int64]
    images: PatchImages | None


class TableSource:
    """One split of all slides, or all cells of some.

    Args:
        manifest: of the sealed dataset.
        split: train, val, test; None for all cells.
        slides: names; None for all.

    Attributes:
        genes: see `Source`.
        symbols: see `Source`.
        common_genes: see `Source`.
        panels: see `Source`.
        slides: see `Source`.
        channels: red, green and blue where every slide has an image, else none.
        values: see `Source`.
        vocabulary: none.
    """

    vocabulary: Vocabulary | None = None

    def __init__(
        self,
        manifest: Path,
        split: Literal["train", "val", "test"] | None = None,
        slides: Sequence[str] | None = None,
    ) -> None:
        sealed = read_manifest(manifest)
        table = read_genes(sealed.locate(sealed.content["genes"]["path"]), list(sealed.slides))
        self._where = sealed.path
        self._slides = [_read_slide(sealed, name, split, table.measured[name]) for name in slides or sealed.slides]
        self._labels = sorted({name for item in self._slides for name in item.cells if name.startswith(PREFIX)})
        self.genes = table.gene_ids
        self.symbols = table.symbols
        self.common_genes = tuple(compress(self.genes, table.common().tolist()))
        self.panels = table.measured
        self.slides = tuple(item.name for item in self._slides if len(item.rows))
        self.channels: tuple[str, ...] = CHANNELS if all(item.images for item in self._slides) else ()
        self.values: Literal["counts", "normalised", "log"] = sealed.content["values"]

    def count(self, scale: str = "cell") -> int:
        """Return the number of cells."""
        self._refuse(Needs(scale=scale))
        return sum(len(item.rows) for item in self._slides)

    def batches(
        self, needs: Needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield every cell once; see `Source`.

        In the order of the files, only the rows of a batch are in memory; shuffled, the part's whole matrix is.
        """
        which = np.repeat(np.arange(len(self._slides)), [len(item.rows) for item in self._slides])
        place = np.concatenate([np.arange(len(item.rows)) for item in self._slides])
        order = self._order(needs, shuffle, rank, world)
        order.start = skip
        held = [_rows(item, item.rows) for item in self._slides] if shuffle is not None and needs.genes else None
        for part in order:
            yield self._batch(which[part], place[part], needs, held)

    def n_batches(self, needs: Needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        """Return how many batches that yields; see `Source`."""
        return self._order(needs, shuffle, rank, world).n_batches

    def _order(self, needs: Needs, shuffle: int | None, rank: int, world: int) -> Order:
        self._refuse(needs)
        even: Literal["cut"] | None = None if shuffle is None else "cut"
        plan = Plan(needs.batch_size, shuffle is not None, shuffle or 0, rank=rank, world=world, even=even)
        return Order([self.count()], plan)

    def _batch(
        self,
        which: NDArray[np.int64],
        place: NDArray[np.int64],
        needs: Needs,
        held: list[sparse.csr_matrix] | None,
    ) -> Batch:
        slides = [self._slides[i] for i in which.tolist()]
        cells = _gather(self._slides, which, place, ["cell_id", "x_um", "y_um", "split", *self._labels])
        labels = cells[self._labels].astype(object)
        labels = labels.where(labels.notna(), None)
        ids = cells["cell_id"].tolist()
        genes: dict[str, Any] = dict.fromkeys(("gene_index", "gene_count", "gene_offset", "genes", "measured"))
        if needs.genes:
            genes |= _genes(self._slides, which, place, (len(self.genes), needs.genes), held)
        texts = {
            "key": [f"{item.name}/{cell}" for item, cell in zip(slides, ids, strict=True)],
            "slide": [item.name for item in slides],
            "donor": [item.donor for item in slides],
            "record_id": ids,
            "split": cells["split"].tolist(),
            "tiles": {},
            "labels": {name.removeprefix(PREFIX): labels[name].tolist() for name in self._labels},
        }
        xy_um = torch.from_numpy(cells[["x_um", "y_um"]].to_numpy(dtype=np.float32))
        side_um = torch.tensor([item.images.side_um if item.images else 0.0 for item in slides])
        image = None if needs.image_size is None else _images(self._slides, which, place, needs.image_size)
        return Batch(Names.known(texts), xy_um, side_um, image=image, **genes)

    def _refuse(self, needs: Needs) -> None:
        if needs.scale != "cell":
            raise InputError(self._where, f"a dataset of tables has no scale {needs.scale}", "read the scale cell")
        if needs.group or needs.context:
            wanted = needs.group or needs.context[0][0]
            what = f"the model reads {wanted} tiles, and a dataset of tables has none"
            raise InputError(self._where, what, "choose a preset of cells alone, or leave this model out")
        bare = next((item.name for item in self._slides if item.images is None), None)
        if needs.image_size is not None and bare is not None:
            what = f"slide {bare} is a table that has no images, and the model asks for some"
            raise InputError(self._where, what, "set image of the slide, or leave this model out")


def _read_slide(manifest: Manifest, name: str, split: str | None, measured: NDArray[np.bool_]) -> _Slide:
    entry = manifest.slides[name]
    files = {key: manifest.locate(item["path"]) for key, item in entry["files"].items()}
    labels = [column for column in parquet_columns(files["cells"], _READ_CELLS) if column.startswith(PREFIX)]
    cells = read_parquet(files["cells"], ["cell_id", "x_um", "y_um", *labels], _READ_CELLS)
    cells["split"] = read_parquet(files["splits"], ["split"], "make_splits")["split"].to_numpy()
    rows = np.flatnonzero(cells["split"] == split) if split else np.arange(len(cells))
    return _Slide(
        name=name,
        donor=entry["donor"],
        rows=rows,
        cells=cells.iloc[rows].reset_index(drop=True),
        counts=files["counts"],
        places=np.flatnonzero(measured),
        images=PatchImages(manifest, name) if "patches" in entry else None,
    )


def _gather(
    slides: Sequence[_Slide], which: NDArray[np.int64], place: NDArray[np.int64], columns: Sequence[str]
) -> pd.DataFrame:
    """Return the rows asked for, in that order; a label column that a slide lacks is empty there."""
    parts, positions = [], []
    for number in np.unique(which):
        at = np.flatnonzero(which == number)
        parts.append(slides[number].cells.iloc[place[at]].reindex(columns=columns))
        positions.append(at)
    return pd.concat(parts, ignore_index=True).iloc[np.argsort(np.concatenate(positions))]


def _images(slides: Sequence[_Slide], which: NDArray[np.int64], place: NDArray[np.int64], size_px: int) -> torch.Tensor:
    """Return uint8 [B, 3, S, S] of the rows asked for, in that order."""
    out = np.empty((len(which), len(CHANNELS), size_px, size_px), dtype=np.uint8)
    for number in np.unique(which):
        at = np.flatnonzero(which == number)
        item = slides[number]
        if item.images is not None:
            out[at] = item.images(item.rows[place[at]], size_px)
    return torch.from_numpy(out)


def _genes(
    slides: Sequence[_Slide],
    which: NDArray[np.int64],
    place: NDArray[np.int64],
    form: tuple[int, Literal["dense", "sparse"]],
    held: list[sparse.csr_matrix] | None,
) -> Mapping[str, Any]:
    """Return the gene fields of a batch over a vocabulary of `form[0]` genes, dense or sparse."""
    measured = np.zeros((len(which), form[0]), dtype=bool)
    blocks, positions = [], []
    for number in np.unique(which):
        item, at = slides[number], np.flatnonzero(which == number)
        block = held[number][place[at]] if held else _rows(item, item.rows[place[at]])
        wide = (block.data, item.places[block.indices], block.indptr)
        blocks.append(sparse.csr_matrix(wide, shape=(len(at), form[0])))
        measured[np.ix_(at, item.places)] = True
        positions.append(at)
    rows = sparse.vstack(blocks, format="csr")[np.argsort(np.concatenate(positions))]
    if form[1] == "dense":
        dense = rows.astype(np.float32).toarray()
        return {"genes": torch.from_numpy(dense), "measured": torch.from_numpy(measured)}
    return {
        "gene_index": torch.from_numpy(rows.indices.astype(np.int64)),
        "gene_count": torch.from_numpy(rows.data.copy()),
        "gene_offset": torch.from_numpy(rows.indptr.astype(np.int64)),
    }


def _rows(item: _Slide, rows: NDArray[np.int64]) -> sparse.csr_matrix:
    with CountsFile(item.counts) as counts:
        return counts.take(rows)
