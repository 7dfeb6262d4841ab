"""`Inputs` read from the files of the line, only the rows that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.core.seeds import generator
from mistline.mist.expression import CountsFile
from mistline.mist.pair import Pair, open_pairs
from mistline.store.embeddings import Origin, read_blocks, read_origin
from mistline.store.filled import Filled, read_filled
from mistline.store.folds import read_folds
from mistline.store.imputed import ImputedGenes, read_imputed
from mistline.store.perturbed import Perturbed, read_perturbed
from mistline.store.pictures import Pictures, read_pictures
from mistline.store.pictures import read_origin as read_pictures_origin

_COLOURS = ("red", "green", "blue")  # columns of the index of a slide's patches
_IMAGES_AT_ONCE = 256
_ARRAY = ("array_row", "array_col")  # of slides whose spots lie on an array: their neighbours are those of the array


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """The files of one slide that tasks may read, and what the sheet says of it."""

    slide: str
    donor: str
    cells: Path
    counts: Path
    splits: Path
    embedding: Path | None = None
    tissue: str | None = None
    disease: str | None = None
    patches: Path | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Args:
        model: name of the run; None for the controls.
        seed: its training seed.
        dataset_version: hash of the manifest the evaluation is of.
        predictions: its predictions (parquet), where it gives any.
        folds: the task's own division of the cells (parquet), where it has one.
        pictures: the images that it drew (safetensors), where it draws any.
        filled: the hidden cells that it generated (parquet), where it generates any.
        perturbed: the rings that it generated around changed circles (parquet), where it generates any.
        imputed: the tested genes as it imputed them (parquet), where it imputes any.
        reference: the single cells (h5ad) that genes are imputed from, for tasks that judge such genes.
        genes: how genes are divided into folds (parquet), for the same tasks.
        at_most: cells of a slide that the same tasks judge; None for all.
    """

    model: str | None
    seed: int
    dataset_version: str
    predictions: Path | None = None
    folds: Path | None = None
    pictures: Path | None = None
    filled: Path | None = None
    perturbed: Path | None = None
    imputed: Path | None = None
    reference: Path | None = None
    genes: Path | None = None
    at_most: int | None = None


SlideImages = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]  # rows [B], side -> [B, C, S, S]


class FileInputs:
    """`Inputs` over files.

    Args:
        slides: the slides judged, in the order of the cohort.
        subject: what is judged on them.
        images: opens the real images of a slide; None for tasks that look at none.

    Raises:
        InputError: an embedding, prediction, picture, filled cell or imputed gene was made from another dataset
            version, model or seed, or the weights differ between slides.
    """

    def __init__(
        self, slides: Sequence[SlideFiles], subject: Subject, images: Callable[[str], SlideImages] | None = None
    ) -> None:
        self.slides = {item.slide: item for item in slides}
        self._subject = subject
        self._images = None if images is None else cache(images)
        self._gene_ids, self._values = cache(_gene_ids), cache(_values)
        expected: dict[str, str | int] = {"dataset_version": subject.dataset_version, "seed": subject.seed}
        if subject.model is not None:
            expected["model"] = subject.model
        made = [item.embedding for item in slides if item.embedding] + [subject.predictions] * self.has_predictions
        origins = [_checked(path, read_origin(path), expected, "embed") for path in made if path]
        if subject.pictures is not None:
            _checked(subject.pictures, read_pictures_origin(subject.pictures), expected, "generate")
        if subject.filled is not None:
            _checked(subject.filled, read_origin(subject.filled), expected, "generate-cells")
        if subject.perturbed is not None:
            _checked(subject.perturbed, read_origin(subject.perturbed), expected, "perturb")
        if subject.imputed is not None:
            _checked(subject.imputed, read_origin(subject.imputed), expected, "impute-folds")
        if len({origin.model_sha256 for origin in origins}) > 1:
            what = "the slides are embedded with different weights"
            raise InputError(made[0] or "embeddings", what, "run embed again")

    @property
    def is_controls(self) -> bool:
        """Return whether the controls are judged, and no model."""
        return self._subject.model is None

    @property
    def has_predictions(self) -> bool:
        """Return whether the model gives predictions of its own."""
        return self._subject.predictions is not None

    def sheet(self) -> pd.DataFrame:
        """Return what the sheet says of each slide; see `tasks.base.Inputs`."""
        columns = ("slide", "donor", "tissue", "disease")
        rows = [[getattr(item, name) for name in columns] for item in self.slides.values()]
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def count(self, *splits: str) -> int:
        """Return the number of cells of some splits."""
        return sum(len(rows) for rows in self._rows(splits))

    def cells(self, *splits: str, at_most: int | None = None, seed: int = 0) -> pd.DataFrame:
        """Return the cells of some splits, or a draw of them; see `tasks.base.Inputs`."""
        rows = self._rows(splits)
        total = sum(map(len, rows))
        if at_most is not None and total > at_most:
            chosen = np.zeros(total, dtype=bool)
            draw = generator(seed, "evaluate", "cells", *splits)
            chosen[draw.choice(total, size=at_most, replace=False)] = True
            ends = np.cumsum([len(part) for part in rows])
            rows = [part[kept] for part, kept in zip(rows, np.split(chosen, ends[:-1]), strict=True)]
        parts = [_read_cells(item, part) for item, part in zip(self.slides.values(), rows, strict=True)]
        return pd.concat(parts, ignore_index=True)

    def _rows(self, splits: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return, for each slide, the rows of the cells of these splits."""
        found = [_table(item.splits, ["split"])["split"] for item in self.slides.values()]
        return [np.flatnonzero(split.isin(splits).to_numpy() | (not splits)) for split in found]

    def folds(self) -> pd.DataFrame:
        """Return the task's own division; see `tasks.base.Inputs`."""
        return read_folds(_given(self._subject.folds, "folds", "assign-folds"))

    def predictions(self) -> pd.DataFrame:
        """Return the model's predictions; see `tasks.base.Inputs`."""
        return _table(_given(self._subject.predictions, "predictions", "predict"))

    def embedding(self, cells: pd.DataFrame) -> NDArray[np.float32]:
        """Return [n, D], a row for each given cell."""
        cells = cells[["slide", "cell_id"]].reset_index(drop=True)
        found: NDArray[np.float32] | None = None
        for slide, part in cells.groupby("slide", sort=False):
            item = self.slides[str(slide)]
            block = _embedding_rows(item, part)
            if found is None:
                found = np.empty((len(cells), block.shape[1]), dtype=np.float32)
            if block.shape[1] != found.shape[1]:
                what = f"{block.shape[1]} dimensions, other slides have {found.shape[1]}"
                raise InputError(item.embedding or slide, what, "run embed again")
            found[part.index.to_numpy()] = block
        if found is None:
            raise InputError("splits", "no cell is left to judge", "look at splits.json")
        return found

    def counts(self, cells: pd.DataFrame, genes: Sequence[str]) -> sparse.csr_matrix:
        """Return [n, G] counts (or other `values`) of these genes, a row for each given cell."""
        cells = cells.reset_index(drop=True)
        blocks, positions = [], []
        for slide, part in cells.groupby("slide", sort=False):
            blocks.append(_count_rows(self.slides[str(slide)], part, genes))
            positions.append(part.index.to_numpy())
        order = np.argsort(np.concatenate(positions), kind="stable")
        return sparse.vstack(blocks, format="csr")[order]

    def colours(self, cells: pd.DataFrame) -> NDArray[np.float32] | None:
        """Return [n, 3] mean colours of the cells' patches; see `tasks.base.Inputs`."""
        paths = {slide: self.slides[str(slide)].patches for slide in cells["slide"].unique()}
        found = np.empty((len(cells), len(_COLOURS)), dtype=np.float32)
        for slide, path in paths.items():
            if path is None:
                return None
            own = (cells["slide"] == slide).to_numpy()
            index = _table(path, ["cell_id", *_COLOURS]).iloc[cells["row"].to_numpy()[own]]
            if not np.array_equal(index["cell_id"].to_numpy(), cells["cell_id"].to_numpy()[own]):
                raise InputError(path, "its cells are not those of the slide", "run cut-patches again")
            found[own] = index[list(_COLOURS)].to_numpy(dtype=np.float32)
        return found

    def pictures(self, cells: pd.DataFrame, size_px: int) -> NDArray[np.uint8]:
        """Return [n, C, S, S], the real images of the given cells; see `tasks.base.Inputs`."""
        if self._images is None:
            raise InputError("images", "the task asks for images and none were given", "evaluate a dataset with images")
        found: NDArray[np.uint8] | None = None
        for slide in cells["slide"].unique():
            own = np.flatnonzero((cells["slide"] == slide).to_numpy())
            own = own[np.argsort(cells["row"].to_numpy()[own], kind="stable")]  # in the order of the files
            images = self._images(str(slide))
            for start in range(0, len(own), _IMAGES_AT_ONCE):
                part = own[start : start + _IMAGES_AT_ONCE]
                block = images(cells["row"].to_numpy()[part], size_px)
                if found is None:
                    found = np.empty((len(cells), *block.shape[1:]), dtype=np.uint8)
                if block.shape[1:] != found.shape[1:]:
                    what = f"{block.shape[1]} channels, other slides have {found.shape[1]}"
                    raise InputError(f"images of slide {slide}", what, "evaluate slides with the same channels")
                found[part] = block
        if found is None:
            raise InputError("splits", "no cell is left to judge", "look at splits.json")
        return found

    def generated(self) -> Pictures:
        """Return the images that the model drew; see `tasks.base.Inputs`."""
        return read_pictures(_given(self._subject.pictures, "generated images", "generate"))

    def filled(self) -> Filled:
        """Return the hidden cells that the model generated; see `tasks.base.Inputs`."""
        return read_filled(_given(self._subject.filled, "filled cells", "generate-cells"))

    def perturbed(self) -> Perturbed:
        """Return the rings that the model generated around changed circles; see `tasks.base.Inputs`."""
        return read_perturbed(_given(self._subject.perturbed, "perturbed cells", "perturb"))

    def imputed(self) -> ImputedGenes:
        """Return the tested genes as the model imputed them; see `tasks.base.Inputs`."""
        return read_imputed(_given(self._subject.imputed, "imputed genes", "impute-folds"))

    def pairs(self) -> Iterator[Pair]:
        """Yield each judged slide with the reference, one at a time; see `tasks.base.Inputs`."""
        reference = _given(self._subject.reference, "single cells", "read-reference")
        genes = _given(self._subject.genes, "divided genes", "fold-genes")
        files = {item.slide: (item.cells, item.counts) for item in self.slides.values()}
        yield from open_pairs(files, reference, genes, self._subject.at_most)

    @property
    def values(self) -> str:
        """Return what `counts` gives: counts, normalised or log."""
        found = {self._values(item.counts) for item in self.slides.values()}
        if len(found) > 1:
            raise InputError("counts", f"values differ between slides ({', '.join(sorted(found))})", "run them apart")
        return found.pop()

    def common_genes(self) -> tuple[str, ...]:
        """Return the ids of the genes measured on every slide, sorted."""
        panels = [set(self._gene_ids(item.counts)) for item in self.slides.values()]
        return tuple(sorted(set.intersection(*panels)))


def _checked(path: Path, origin: Origin, expected: Mapping[str, str | int], stage: str) -> Origin:
    for field, want in expected.items():
        have = getattr(origin, field)
        if have != want:
            what = f"made from another {field.replace('_', ' ')} ({have!r}, this evaluation is of {want!r})"
            raise InputError(path, what, f"run {stage} again")
    return origin


def _read_cells(item: SlideFiles, rows: NDArray[np.int64]) -> pd.DataFrame:
    split = _table(item.splits, ["cell_id", "split"])
    cells = _table(item.cells)
    if not np.array_equal(cells["cell_id"].to_numpy(), split["cell_id"].to_numpy()):
        raise InputError(item.splits, f"its cells are not those of {item.cells.name}", "run make-splits again")
    array = [name for name in _ARRAY if name in cells.columns]
    labels = [name for name in cells.columns if name.startswith("label_")]
    table = cells[["cell_id", "x_um", "y_um", *array, *labels]].assign(split=split["split"]).iloc[rows]
    table.insert(0, "slide", item.slide)
    table.insert(1, "donor", item.donor)
    table.insert(2, "row", rows)
    return table


def _table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    return read_parquet(path, columns, "the stage that makes it")


def _given(path: Path | None, what: str, stage: str) -> Path:
    if path is None:
        raise InputError(what, f"the task asks for {what} and none were given", f"run {stage} and give its file")
    return path


def _embedding_rows(item: SlideFiles, part: pd.DataFrame) -> NDArray[np.float32]:
    """Return [n, D]; the file passes by in blocks, for it may hold many more cells than are asked for."""
    path = _given(item.embedding, "embeddings", "embed")
    asked, is_found = pd.Index(part["cell_id"]), np.zeros(len(part), dtype=bool)
    found: NDArray[np.float32] | None = None
    blocks = []
    for block_ids, rows in read_blocks(path):
        if found is None:
            found = np.empty((len(part), rows.shape[1]), dtype=np.float32)
        blocks.append(pd.Index(block_ids))
        position = asked.get_indexer(blocks[-1])
        found[position[position >= 0]] = rows[position >= 0]
        is_found[position[position >= 0]] = True
    if found is None:
        raise InputError(path, "the file has no row", "run embed again")
    ids = blocks[0].append(blocks[1:])
    if not ids.is_unique:
        doubled = ids[ids.duplicated()][0]
        raise InputError(path, f"cell {doubled} is embedded more than once", "run embed again")
    if not is_found.all():
        missing = part["cell_id"].to_numpy()[int(np.argmin(is_found))]
        raise InputError(path, f"cell {missing} has no embedding", "run embed again")
    return found


def _gene_ids(path: Path) -> tuple[str, ...]:
    with CountsFile(path) as counts:
        return tuple(counts.gene_ids.tolist())


def _values(path: Path) -> str:
    with CountsFile(path) as counts:
        return counts.values


def _count_rows(item: SlideFiles, part: pd.DataFrame, genes: Sequence[str]) -> sparse.csr_matrix:
    rows = part["row"].to_numpy()
    with CountsFile(item.counts) as counts:
        ids = counts.cell_ids()
        if rows.max() >= len(ids) or not np.array_equal(ids[rows], part["cell_id"].to_numpy().astype(str)):
            raise InputError(item.counts, f"its cells are not those of {item.cells.name}", "run read-cells again")
        columns = pd.Index(counts.gene_ids).get_indexer(pd.Index(list(genes)))
        block = counts.take(rows)
    if (columns < 0).any():
        missing = genes[int(np.argmax(columns < 0))]
        raise InputError(item.counts, f"gene {missing} is not measured here", "ask for common genes only")
    return block[:, columns]
