"""Filled holes as the page shows them: one hole beside what was measured there, and errors by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.report.pictures import Album
from mistline.report.plots import holes, theme
from mistline.report.plots.holes import Depths, Maps
from mistline.report.plots.theme import Picture
from mistline.report.sources import SlideSource
from mistline.report.tables import Cell, Column, Row, Table, cell
from mistline.report.unseen_cells import NEIGHBOURS, FilledSlide, training_depth
from mistline.store.filled import Filled, read_filled
from mistline.store.told import WAYS

_BUDGET_BYTES = 1.5 * 10**6  # of all maps
_LARGEST_PICTURE = 400_000
_DRAWS = 500  # of an interval
_CONTROL = "mean of ten nearest"

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class HolesView:
    """Holes of one size: a map of one of them, and the errors of all."""

    title: str
    sentence: str
    maps: Picture
    chart: Picture
    table: Table


@dataclass
class _Squared:
    """Mean squared errors over genes of a model's cells and of the control on the same, slide after slide."""

    model: list[Errors] = field(default_factory=list)
    control: list[Errors] = field(default_factory=list)
    rounds: list[NDArray[np.int16]] = field(default_factory=list)


def view_unseen(
    paths: Sequence[Path], slides: Sequence[SlideSource], version: str, album: Album
) -> tuple[HolesView, ...]:
    """Draw and tabulate what models filled; empty where there is nothing.

    Args:
        paths: filled cells, of one seed of each model.
        slides: of the cohort.
        version: of the dataset.
        album: where pictures go; their size is decided here.

    Raises:
        InputError: a file is damaged or of another version of the dataset, or does not fit the slides or the others.
    """
    found: dict[str, dict[str, Filled]] = {}
    for path in paths:
        item = read_filled(path)
        if item.origin.dataset_version != version:
            what = f"was made from dataset {item.origin.dataset_version[:12]}, not from {version[:12]}"
            raise InputError(path, what, "make it again: results of two versions are never put on one page")
        found.setdefault(str(item.about["protocol"]), {})[item.origin.model] = item
    small = Album(album.folder, int(min(_LARGEST_PICTURE, _BUDGET_BYTES / max(len(found), 1))), album.seed)
    named = {slide.name: slide for slide in slides}
    return tuple(_view(protocol, models, named, small) for protocol, models in found.items())


def _view(protocol: str, models: Mapping[str, Filled], slides: Mapping[str, SlideSource], album: Album) -> HolesView:
    genes = sorted(set.intersection(*(set(item.genes) for item in models.values())))
    first = next(iter(models.values()))
    names = list(dict.fromkeys(first.slide.tolist()))
    unknown = [name for name in names if name not in slides]
    if unknown or not genes:
        what = f"slide {unknown[0]} was filled and is not shown" if unknown else "the models share no gene"
        raise InputError(f"filled cells of {protocol}", what, "run generate-cells again")
    depth = training_depth(list(slides.values()), genes)
    squared = {name: _Squared() for name in models}
    picture = None
    for name in names:
        slide = FilledSlide(slides[name], genes, first.cell_id[first.slide == name].tolist(), depth)
        for model, item in models.items():
            _compare(slide, name, item, genes, squared[model])
        picture = picture or _maps(slide, name, models, genes, protocol, album)
    assert picture is not None  # a file has a cell at least
    rounds = {model: _by_round(own, album.seed, model) for model, own in squared.items()}
    n = len(first.cell_id)
    n_holes = len(set(zip(first.slide.tolist(), first.hole.tolist(), strict=True)))
    sentence = (
        f"{n:,} cells of {n_holes} square{'s' * (n_holes != 1)} on {len(names)} test slide{'s' * (len(names) != 1)} "
        f"were hidden and filled from the rim inwards. {_ways(models)}"
    )
    return HolesView(
        protocol, sentence, picture, _chart(rounds, models, protocol, album), _table(rounds, models, protocol)
    )


def _ways(models: Mapping[str, Filled]) -> str:
    """Say how many cells were filled otherwise than in windows of the model's size."""
    told = []
    for name, item in models.items():
        for way, text in zip(WAYS[1:], ("from wider windows", "with the mean of the slide"), strict=True):
            n = int((item.way == way).sum())
            told += [f"{name} filled {n:,} {text}"] if n else []
    return f"Not as the others: {'; '.join(told)}." if told else "All by windows of the model's own size."


def _told(item: Filled, rows: NDArray[np.int64], genes: Sequence[str], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return [n, G] of some rows, of those genes that a slide measured."""
    place = {name: number for number, name in enumerate(item.genes)}
    columns = [place[genes[number]] for number in own.tolist()]
    found: NDArray[np.float32] = item.told[rows] @ item.expression[:, columns]
    return found


def _compare(slide: FilledSlide, name: str, item: Filled, genes: Sequence[str], into: _Squared) -> None:
    """Add a slide's errors."""
    own = np.flatnonzero(item.slide == name)
    rows = slide.rows(item.cell_id[own].tolist())
    if np.isin(rows, slide.visible).any() or len(np.unique(rows)) != len(slide.xy_um) - len(slide.visible):
        what = f"on slide {name} other cells were filled than by the other models"
        raise InputError(f"filled cells of {item.origin.model}", what, "run generate-cells again")
    into.rounds.append(item.round[own])
    for part, truth, around in slide.chunks(rows):
        told = _told(item, own[part], genes, slide.genes)
        into.model.append(np.square(told.astype(np.float64) - truth).mean(axis=1))
        into.control.append(np.square(around.astype(np.float64) - truth).mean(axis=1))


def _maps(
    slide: FilledSlide, name: str, models: Mapping[str, Filled], genes: Sequence[str], protocol: str, album: Album
) -> Picture:
    """Draw the first hole of a slide: none is chosen by what came out."""
    first = next(iter(models.values()))
    own = np.flatnonzero(first.slide == name)
    number = int(first.hole[own].min())
    hole = slide.xy_um[slide.rows(first.cell_id[own[first.hole[own] == number]].tolist())]
    low, high = hole.min(axis=0), hole.max(axis=0)
    margin = 0.5 * float((high - low).max())
    shown = np.flatnonzero(((slide.xy_um >= low - margin) & (slide.xy_um <= high + margin)).all(axis=1))
    gene = slide.most_spatial((low + high) / 2)
    measured = slide.measured(shown)[:, gene].toarray().ravel()
    is_hidden = ~np.isin(shown, slide.visible)
    panels = {"measured": measured}
    for model, item in models.items():
        rows = np.flatnonzero(item.slide == name)
        at = dict(zip(slide.rows(item.cell_id[rows].tolist()).tolist(), rows.tolist(), strict=True))
        wanted = np.array([at[row] for row in shown[is_hidden].tolist()])
        panels[f"model: {model}"] = measured.copy()
        panels[f"model: {model}"][is_hidden] = _told(item, wanted, genes, slide.genes[[gene]]).ravel()
    panels[f"control: {_CONTROL}"] = measured.copy()
    panels[f"control: {_CONTROL}"][is_hidden] = slide.around(shown[is_hidden])[:, gene]
    symbol = str(slide.symbols[gene])
    white = max(float(np.quantile(measured, 0.99)), 1e-3)
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return theme.tissue(
        partial(holes.maps, drawn=Maps(slide.xy_um[shown], panels, box, white, f"{symbol}, log-normalised")),
        folder=album.folder,
        name=f"unseen.{protocol}",
        alt=f"{len(hole)} hidden cells and their surroundings coloured by {symbol}: measured, generated, and control",
        caption=f"Hole {number} of slide {name}, {len(hole):,} cells inside the dashed box, and what lies around it. "
        f"Of {len(slide.genes):,} genes, {symbol} has the largest Moran's I over the visible cells around it. "
        f"Inside: what was measured and no model saw; what models say; the mean of the {NEIGHBOURS} nearest visible "
        "cells. Outside all panels are the same. A mean is smoother than a cell.",
        budget=album.budget,
    )


@dataclass(frozen=True)
class _Round:
    """One round of a model: cells, RMSE of both, and their ratio with its interval."""

    number: int
    cells: int
    model: float
    control: float
    ratio: float
    low: float
    high: float


def _by_round(own: _Squared, seed: int, model: str) -> list[_Round]:
    number, error, other = (np.concatenate(parts) for parts in (own.rounds, own.model, own.control))
    found = []
    for k in np.unique(number).tolist():
        ours, theirs = error[number == k], other[number == k]
        n, theirs = len(ours), np.maximum(theirs, 1e-12)
        draws = generator(seed, "report", "unseen", model, int(k)).integers(0, n, (_DRAWS, n))
        drawn = np.sqrt(ours[draws].mean(axis=1) / theirs[draws].mean(axis=1))
        low, high = np.quantile(drawn, [0.025, 0.975])
        both = np.sqrt([ours.mean(), theirs.mean()])
        found.append(_Round(int(k), n, *map(float, (*both, both[0] / both[1], low, high))))
    return found


def _chart(
    rounds: Mapping[str, Sequence[_Round]], models: Mapping[str, Filled], protocol: str, album: Album
) -> Picture:
    drawn = [
        Depths(
            name,
            *([getattr(one, key) for one in own] for key in ("number", "ratio", "low", "high")),
        )
        for name, own in rounds.items()
    ]
    return theme.chart(
        partial(holes.depths, drawn=drawn, colours=theme.colours(list(models)), control=_CONTROL),
        folder=album.folder,
        name=f"unseen.{protocol}.rounds",
        alt=f"error by round of {', '.join(models)}, as a share of the control's",
        caption=f"RMSE over genes and cells by round, as a share of that of the {_CONTROL} on the same cells: below 1 "
        "the model is better. Later rounds lie deeper. Intervals (95 %) resample cells, which are like their "
        "neighbours: they are too narrow, and say nothing of other slides; the task's table has its own.",
    )


def _table(rounds: Mapping[str, Sequence[_Round]], models: Mapping[str, Filled], protocol: str) -> Table:
    heads = (
        Column("model"),
        *(Column(name, True) for name in ("round", "cells")),
        Column("RMSE", True, "of log-normalised values, over the cells of the round and all genes"),
        Column("RMSE of the control", True, f"{_CONTROL}, for the same cells"),
        Column("ratio", True, "of the model's to the control's, with its interval over cells", ("low", "high")),
    )
    lines = []
    for name in models:
        for one in rounds[name]:
            both = [_best(one.model, one.control), _best(one.control, one.model)]
            text = f"{one.ratio:.3f} ({one.low:.3f} to {one.high:.3f})"
            ratio = Cell(text, one.ratio, parts=(one.low, one.high))
            lines.append(Row((cell(name), cell(one.number), cell(one.cells), *both, ratio)))
    caption = f"Errors by round, {protocol}; the better of model and control is marked."
    return Table(f"unseen.{protocol}", caption, heads, tuple(lines))


def _best(value: float, other: float) -> Cell:
    return Cell(f"{value:.4f}", value, mark="best" if value < other else "")
