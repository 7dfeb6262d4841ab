"""The folds of a task as predictors read them. Labels of tested cells are taken away here, before any model runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_parquet
from mistline.mist.expression import CountsFile
from mistline.models.predictor import Images, Problem, SlideCells
from mistline.store.embeddings import read_embedding, read_origin
from mistline.store.folds import KEYS, numbers
from mistline.store.parts import SEEN

_LABEL = "label_"


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """The files of one slide that a predictor is given.

    Args:
        slide: name.
        donor: whose tissue it is.
        cells: cells.parquet.
        counts: counts.h5ad.
        embeddings: of the runs the model builds on.
    """

    slide: str
    donor: str
    cells: Path
    counts: Path
    embeddings: tuple[Path, ...] = ()


class Folds:
    """The problems of one task and protocol, fold by fold.

    Args:
        slides: files of all slides.
        folds: what assign_folds wrote.
        label: column of the labels, without its prefix.
        dataset_version: that embeddings must be of.
        images: slide -> its images, for models that read some.
        metacells: slide -> rows of the dataset's vocabulary by cell_id, for models that read them.

    Raises:
        ConfigError: no slide has the label column.
        InputError: an embedding is of another dataset version, or the folds are of other cells.
    """

    def __init__(
        self,
        slides: Sequence[SlideFiles],
        folds: pd.DataFrame,
        label: str,
        dataset_version: str,
        images: Mapping[str, Images] | None = None,
        metacells: Mapping[str, pd.Series] | None = None,
    ) -> None:
        self._files = {item.slide: item for item in slides}
        self._folds = folds
        self._column = f"{_LABEL}{label}"
        self._slide = cache(self._read)
        self._images, self._metacells = images or {}, metacells or {}
        for path in (path for item in slides for path in item.embeddings):
            if read_origin(path).dataset_version != dataset_version:
                raise InputError(path, "made from another version of the dataset", "run embed again")
        values = [self._labels(item) for item in slides]
        known = sorted({str(value) for labels in values if labels is not None for value in labels.dropna()})
        if all(labels is None for labels in values):
            raise ConfigError(f"label {label}", "no slide has this label column", "name a column of the slides' labels")
        self.classes = tuple(known)

    @property
    def numbers(self) -> list[int]:
        """The folds, ascending."""
        return numbers(self._folds)

    def problems(self) -> Iterator[tuple[int, Problem]]:
        """Yield (fold, problem); a slide is read once for all folds.

        Raises:
            InputError: a fold has nothing to train on, or its slides share no gene.
        """
        for fold in self.numbers:
            table = self._folds[[*KEYS, str(fold)]].rename(columns={str(fold): "part"}).dropna()
            if not (table["part"] == "train").any():
                what = f"fold {fold} has no cell to train on"
                raise InputError("folds", what, "choose a protocol with labels for models that learn from them")
            parts = dict(iter(table.groupby("slide", sort=False)))
            names = [name for name in self._files if name in parts]
            genes = self._shared_genes(names)
            values = {self._slide(name).values for name in names}
            if len(values) > 1:
                raise InputError(
                    "slides", f"they hold {' and '.join(sorted(values))}", "give slides of one kind of values"
                )
            slides = [self._cells(name, parts[name], genes) for name in names]
            yield fold, Problem(slides, genes, values.pop(), self.classes)

    def _shared_genes(self, names: Sequence[str]) -> tuple[str, ...]:
        panels = [set(self._slide(name).genes) for name in names]
        return tuple(sorted(set.intersection(*panels)))

    def _cells(self, name: str, fold: pd.DataFrame, genes: tuple[str, ...]) -> SlideCells:
        own = self._slide(name)
        row = pd.Index(own.cell_id).get_indexer(pd.Index(fold["cell_id"].astype(object)))
        if (row < 0).any():
            raise InputError("folds", f"{int((row < 0).sum())} cells are not on slide {name}", "run assign-folds again")
        part = np.full(len(own.cell_id), "unlabelled", dtype=object)
        part[row] = fold["part"].to_numpy(dtype=object)
        label = np.where(np.isin(part, SEEN), own.label, -1)  # a model never holds the label of a tested cell
        columns = pd.Index(own.genes).get_indexer(pd.Index(genes))
        return SlideCells(
            slide=name,
            donor=self._files[name].donor,
            cell_id=own.cell_id.tolist(),
            counts=own.counts[:, columns],
            xy_um=own.xy_um,
            array_yx=own.array_yx,
            label=label,
            part=part,
            embeddings=own.embeddings,
            images=self._images.get(name),
            metacell=own.metacell,
        )

    def _labels(self, item: SlideFiles) -> pd.Series | None:
        table = read_parquet(item.cells, made_by="read_cells for this slide")
        return table.get(self._column)

    def _read(self, name: str) -> _Slide:
        item = self._files[name]
        table = read_parquet(item.cells, made_by="read_cells for this slide")
        with CountsFile(item.counts) as store:
            if not np.array_equal(store.cell_ids(), table["cell_id"].to_numpy(dtype=str)):
                what = f"its cells are not those of {item.cells.name}"
                raise InputError(item.counts, what, "run the stage that makes it again")
            counts = store.rows(0, store.n_cells)
        place = {value: number for number, value in enumerate(self.classes)}
        labels = table[self._column] if self._column in table else pd.Series([None] * len(table))
        array = None
        if "array_row" in table and table["array_row"].notna().all():
            array = table[["array_row", "array_col"]].to_numpy(dtype=np.int64)
        return _Slide(
            cell_id=table["cell_id"].to_numpy(dtype=object),
            genes=tuple(store.gene_ids.tolist()),
            counts=counts,
            values=store.values,
            xy_um=table[["x_um", "y_um"]].to_numpy(dtype=np.float64),
            array_yx=array,
            label=np.array([-1 if pd.isna(value) else place[str(value)] for value in labels], dtype=np.int64),
            embeddings={read_origin(path).model: _embedding(path, table["cell_id"]) for path in item.embeddings},
            metacell=_metacell(item, self._metacells.get(name), table["cell_id"]),
        )


@dataclass(frozen=True, slots=True)
class _Slide:
    """One slide as it lies on disk."""

    cell_id: NDArray[np.object_]
    genes: tuple[str, ...]
    counts: sparse.csr_matrix
    values: str
    xy_um: NDArray[np.float64]
    array_yx: NDArray[np.int64] | None
    label: NDArray[np.int64]
    embeddings: Mapping[str, NDArray[np.float32]]
    metacell: NDArray[np.int64] | None


def _metacell(item: SlideFiles, found: pd.Series | None, cell_id: pd.Series) -> NDArray[np.int64] | None:
    """Return [n] of a slide's cells; None where none were read."""
    if found is None:
        return None
    position = found.index.get_indexer(pd.Index(cell_id.astype(object)))
    if (position < 0).any():
        missing = cell_id.to_numpy()[int((position < 0).argmax())]
        raise InputError(item.cells, f"cell {missing} is not in the dataset", "seal the dataset again")
    return found.to_numpy()[position]


def _embedding(path: Path, cell_id: pd.Series) -> NDArray[np.float32]:
    ids, rows = read_embedding(path)
    position = pd.Index(ids).get_indexer(pd.Index(cell_id))
    if (position < 0).any():
        missing = cell_id.to_numpy()[int((position < 0).argmax())]
        raise InputError(path, f"cell {missing} has no embedding", "run embed again")
    return rows[position]
