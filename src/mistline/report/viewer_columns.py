"""What cells can be coloured by: labels, split, meta-cells, predictions, measures and genes, as codes."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.mist.expression import BLOCK_ROWS, CountsFile
from mistline.report.plots import theme
from mistline.report.sources import SPLITS, SlideSource
from mistline.report.viewer_pack import MISSING, Codes, narrow, quantise
from mistline.store.absent import read_absent
from mistline.store.predictions import PREFIX

LABEL = "label_"
_MOST_NAMES = 4096  # more names than this are no classes
_MOST_NUMBERS = 30  # a label of more different numbers is a measure
_BLOCKS_LOOKED_AT = 4  # of a slide's counts, spread over it, when the most variable genes are chosen
_TOP_SHARE = 99  # percentile of a number's values that gets the last colour
_MEASURES = {"n_counts": "counts", "n_genes": "genes", "cell_area_um2": "cell area (µm²)"}


@dataclass(frozen=True)
class Column:
    """One thing to colour by.

    Attributes:
        title: as it is listed.
        group: heading it is listed under.
        codes: [n] of every cell of the slide, 0 where it has no value.
        names, colours: of code 1, 2, ...; None for numbers.
        low, step: of numbers, see `Codes`.
        range: values of a number that get the first and the last colour.
        imputed: the model that imputed it; None for what was measured or is known otherwise.
        sd: how unsure that model is.
    """

    title: str
    group: str
    codes: NDArray[np.unsignedinteger[Any]]
    names: tuple[str, ...] | None = None
    colours: tuple[str, ...] | None = None
    low: float = 0.0
    step: float = 1.0
    range: tuple[float, float] = (0.0, 1.0)
    imputed: str | None = None
    sd: Codes | None = None


@dataclass(frozen=True)
class Vocabulary:
    """What must be the same on all slides, so that a colour means the same.

    Attributes:
        names: label column -> its classes, sorted.
        measures: label columns that hold numbers.
        genes: ids of the genes to store.
        metacells: column of metacells.parquet -> number of groups.
        predictions: title -> slide -> (cell id, predicted class) and its classes.
    """

    names: Mapping[str, tuple[str, ...]]
    measures: frozenset[str]
    genes: tuple[str, ...]
    metacells: Mapping[str, int]
    predictions: Mapping[str, Prediction]


@dataclass(frozen=True)
class Prediction:
    """A model's classes for the cells it was tested on.

    Attributes:
        names: classes, sorted.
        slides: slide -> class by cell id.
    """

    names: tuple[str, ...]
    slides: Mapping[str, pd.Series]


def vocabulary(
    slides: Sequence[SlideSource], n_genes: int, markers: Sequence[str], predictions: Sequence[Path]
) -> Vocabulary:
    """Look over all slides.

    Args:
        slides: those that are shown.
        n_genes: most variable genes to store.
        markers: symbols or ids of genes to store besides.
        predictions: files `<task>/<protocol>/<model>.seed-<seed>.parquet`.

    Raises:
        InputError: no slide has a marker.
    """
    names: dict[str, set[str]] = {}
    metacells: dict[str, int] = {}
    for slide in slides:
        cells = slide.folder / "cells.parquet"
        for column in _label_columns(cells):
            found = _as_names(read_parquet(cells, [column])[column]).dropna().unique()
            names.setdefault(column, set()).update(found)
        for column, values in _groups(slide).items():
            metacells[column] = max(metacells.get(column, 0), int(values.max()) + 1)
    return Vocabulary(
        names={column: tuple(sorted(found)) for column, found in names.items() if _are_classes(found)},
        measures=frozenset(column for column, found in names.items() if _are_numbers(found)),
        genes=_genes(slides, n_genes, markers),
        metacells=metacells,
        predictions=_predictions(predictions),
    )


def columns(slide: SlideSource, shared: Vocabulary) -> list[Column]:
    """Return everything that a slide's cells can be coloured by.

    Raises:
        InputError: a file lists other cells than cells.parquet.
    """
    path = slide.folder / "cells.parquet"
    ids = read_parquet(path, ["cell_id"])["cell_id"].astype(str)
    found = [*_labels(path, shared), *_predicted(slide, ids, shared), *_dataset(slide, shared, len(ids))]
    there = parquet_columns(path)
    for name, title in _MEASURES.items():
        if name in there:
            values = read_parquet(path, [name])[name].to_numpy(dtype=np.float64)
            found.append(numeric(title, "Measured", quantise(values)))
    return [*found, *_expressed(slide, shared.genes, len(ids))]


def colours_of(n: int) -> tuple[str, ...]:
    """Return `n` colours: the house's, then hues a golden angle apart."""
    house = theme.GROUP_COLOURS[:n]
    further = (colorsys.hls_to_rgb((number * 0.381966) % 1, 0.5 + 0.2 * (number % 2), 0.6) for number in range(n))
    return (*house, *("#" + "".join(f"{round(part * 255):02x}" for part in rgb) for rgb in list(further)[len(house) :]))


def _labels(path: Path, shared: Vocabulary) -> Iterator[Column]:
    for column in _label_columns(path):
        title, values = column.removeprefix(LABEL), read_parquet(path, [column])[column]
        if column in shared.names:
            yield _category(title, "Labels", _as_names(values), shared.names[column])
        elif column in shared.measures:
            yield numeric(title, "Labels", quantise(pd.to_numeric(values).to_numpy(dtype=np.float64)))


def _predicted(slide: SlideSource, ids: pd.Series, shared: Vocabulary) -> Iterator[Column]:
    for title, prediction in shared.predictions.items():
        known = [names for names in shared.names.values() if set(prediction.names) <= set(names)]
        names = known[0] if known else prediction.names  # a class has the colour it has among the labels
        if slide.name in prediction.slides:
            yield _category(title, "Predictions", ids.map(prediction.slides[slide.name]), names)


def _dataset(slide: SlideSource, shared: Vocabulary, n: int) -> Iterator[Column]:
    sides = read_parquet(slide.splits_file, ["split"])["split"]
    _require_length(slide.splits_file, len(sides), n)
    split = _category("split", "Dataset", sides, SPLITS)
    yield Column(
        split.title, split.group, split.codes, split.names, tuple(theme.SPLIT_COLOURS[name] for name in SPLITS)
    )
    for column, values in _groups(slide).items():
        _require_length(slide.folder / "metacells.parquet", len(values), n)
        names = tuple(map(str, range(shared.metacells[column])))
        title = "meta-cell" if column == "metacell" else f"meta-cell group, level {column}"
        yield Column(title, "Dataset", narrow(values + 1), names, colours_of(len(names)))


def _expressed(slide: SlideSource, genes: Sequence[str], n: int) -> list[Column]:
    if not genes:
        return []
    with CountsFile(slide.folder / "counts.h5ad") as counts:
        _require_length(counts.path, counts.n_cells, n)
        place = {name: number for number, name in enumerate(counts.gene_ids.tolist())}
        there = [place[name] for name in genes if name in place]
        values = np.zeros((n, len(there)), dtype=np.float32)
        for start, block in counts.blocks():
            values[start : start + block.shape[0]] = block[:, there].toarray()
        titles = counts.symbols[there].tolist()
    found = [numeric(str(title), "Genes", quantise(column)) for title, column in zip(titles, values.T, strict=True)]
    return sorted(found, key=lambda column: column.title.lower())


def _genes(slides: Sequence[SlideSource], n: int, markers: Sequence[str]) -> tuple[str, ...]:
    """Return the markers and the genes whose log(1 + x) varies most over all slides."""
    totals: dict[str, NDArray[np.float64]] = {}
    symbols: dict[str, str] = {}
    for slide in slides:
        if not slide.bundle["panel"]["n_genes"] or not (n or markers):
            continue
        with CountsFile(slide.folder / "counts.h5ad") as counts:
            sums = _moments(counts)
            symbols |= dict(zip(counts.gene_ids.tolist(), counts.symbols.tolist(), strict=True))
            for name, moments in zip(counts.gene_ids.tolist(), sums, strict=True):
                totals[name] = totals.get(name, 0.0) + moments
    wanted = [name for marker in markers for name in _meant(marker, symbols)]
    spread = {name: square / k - (total / k) ** 2 for name, (k, total, square) in totals.items()}
    ranked = sorted(spread, key=lambda name: (-spread[name], name))
    return tuple(dict.fromkeys([*wanted, *ranked[:n]]))


def _moments(counts: CountsFile) -> NDArray[np.float64]:
    """Return cells, sum and sum of squares of log(1 + x) of every gene [G, 3]."""
    starts = range(0, counts.n_cells, BLOCK_ROWS)
    chosen = (
        {starts[number * len(starts) // _BLOCKS_LOOKED_AT] for number in range(_BLOCKS_LOOKED_AT)} if starts else ()
    )
    found = np.zeros((len(counts.gene_ids), 3))
    for start in sorted(chosen):
        block = counts.rows(start, min(start + BLOCK_ROWS, counts.n_cells))
        logged = np.log1p(block.data.astype(np.float64))
        for place, weights in ((1, logged), (2, logged**2)):
            found[:, place] += np.bincount(block.indices, weights, minlength=len(found))
        found[:, 0] += block.shape[0]
    return found


def _meant(marker: str, symbols: Mapping[str, str]) -> list[str]:
    found = [name for name, symbol in symbols.items() if marker in (name, symbol)]
    if not found:
        what = f"report.viewer_markers names gene {marker!r}, which no slide has"
        raise InputError("report", what, "name genes by the symbol or id of the panel")
    return found


def _predictions(files: Sequence[Path]) -> dict[str, Prediction]:
    """Return the classes of tested cells; of a model's seeds the first, of a method that did not run nothing."""
    found: dict[str, Prediction] = {}
    for path in sorted(files):
        model = path.stem.rpartition(".seed-")[0] or path.stem
        title = f"{model}: {path.parent.parent.name}, {path.parent.name.replace('_', ' ')}"
        if title in found or read_absent(path) is not None:
            continue
        table = read_parquet(path, made_by="the stage that predicts")
        classes = [name for name in table.columns if name.startswith(PREFIX)]
        tested = table[table["part"] == "test"]
        best = np.asarray([name.removeprefix(PREFIX) for name in classes], dtype=object)[
            tested[classes].to_numpy().argmax(axis=1)
        ]
        tested = tested[["slide", "cell_id"]].assign(best=best).drop_duplicates(["slide", "cell_id"])
        found[title] = Prediction(
            tuple(sorted(name.removeprefix(PREFIX) for name in classes)),
            {str(name): part.set_index("cell_id")["best"] for name, part in tested.groupby("slide")},
        )
    return found


def _groups(slide: SlideSource) -> dict[str, NDArray[np.int64]]:
    """Return the columns of the slide's meta-cells, coarse levels first; none where it has no meta-cells."""
    path = slide.folder / "metacells.parquet"
    if not slide.image or not path.is_file():
        return {}
    names = [name for name in parquet_columns(path) if name == "metacell" or (name[:1] == "l" and name[1:].isdigit())]
    table = read_parquet(path, sorted(names, key=lambda name: (name == "metacell", name)))
    return {name: table[name].to_numpy(dtype=np.int64) for name in table.columns}


def _label_columns(path: Path) -> list[str]:
    return [name for name in parquet_columns(path) if name.startswith(LABEL)]


def _as_names(values: pd.Series) -> pd.Series:
    return values.map(str, na_action="ignore")


def _are_numbers(names: set[str]) -> bool:
    return len(names) > _MOST_NUMBERS and bool(pd.to_numeric(pd.Series(sorted(names)), errors="coerce").notna().all())


def _are_classes(names: set[str]) -> bool:
    return 0 < len(names) <= _MOST_NAMES and not _are_numbers(names)


def _category(title: str, group: str, values: pd.Series, names: Sequence[str]) -> Column:
    codes = pd.Categorical(values, categories=list(names)).codes.astype(np.int64) + 1
    return Column(title, group, narrow(codes), tuple(names), colours_of(len(names)))


def numeric(title: str, group: str, found: Codes, imputed: str | None = None, sd: Codes | None = None) -> Column:
    """Return a column of numbers, whose colours run from 0, or below it, up to where few values lie above."""
    known = found.codes[found.codes != MISSING].astype(np.float64)
    numbers = found.low + (known - 1) * found.step
    low = min(float(numbers.min()), 0.0) if numbers.size else 0.0
    above = numbers[numbers > low]
    high = float(np.percentile(above, _TOP_SHARE)) if above.size else low + 1
    return Column(title, group, found.codes, low=found.low, step=found.step, range=(low, high), imputed=imputed, sd=sd)


def _require_length(path: Path, n: int, cells: int) -> None:
    if n != cells:
        raise InputError(path, f"lists {n} cells, cells.parquet {cells}", "run its stage for this slide again")
