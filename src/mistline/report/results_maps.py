"""Maps of a table of results: the truth, what the best model says and what places alone say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.report.pictures import Album, drawn_cells
from mistline.report.plots import theme
from mistline.report.plots.dots import Dots, dots
from mistline.report.plots.theme import Picture
from mistline.report.scores import Comparison, Entry
from mistline.report.sources import SlideSource

OTHERS = "other classes"
_KEYS, _TRUTH, _ANSWER, _MODEL = ["slide", "cell_id"], "truth", "answer_", "model"
_MOST_DOTS = 20_000
_MOST_CLASSES = len(theme.GROUP_COLOURS)


def maps(
    item: Comparison, answers: Mapping[Path, Path], slides: Sequence[SlideSource], most: int, album: Album
) -> list[Picture]:
    """Draw the first slides whose scored cells have places; nothing where the task gives cells no class.

    Args:
        item: the table.
        answers: evaluation file -> what its rows say of each scored cell.
        slides: of the cohort.
        most: slides drawn.
        album: where the pictures go.

    Raises:
        InputError: answers are given to cells that are not of the dataset.
    """
    columns = [found for entry in _shown(item) if (found := _column(entry, answers)) is not None]
    if not columns or not most:
        return []
    table = _read(columns)
    colours = _colours(table[_TRUTH])
    found = []
    for slide in slides:
        own = table[table["slide"] == slide.name].astype(str)
        if len(own) and slide.bundle.get("has_coordinates", True) and len(found) < most:
            found.append(_map(item, slide, own, colours, album))
    return found


def _shown(item: Comparison) -> list[Entry]:
    """Return the best model and the control that knows places alone, or else the best control."""
    ranked = item.ranked(item.metrics[0])
    model = next((entry for entry in ranked if not entry.is_control), None)
    controls = [entry for entry in ranked if entry.is_control and " (" not in entry.name]
    control = next((entry for entry in controls if entry.name == "coordinates"), next(iter(controls), None))
    return [entry for entry in (model, control) if entry is not None]


def _column(entry: Entry, answers: Mapping[Path, Path]) -> tuple[str, Path, str] | None:
    """Return (title, file, column) of a row's answers with its first seed; None where it gives none."""
    path = answers.get(entry.files[0]) if entry.files else None
    if path is None:
        return None
    column = f"{_ANSWER}{entry.name if entry.is_control else _MODEL}"
    title = f"{'control: ' * entry.is_control}{entry.name}"
    return (title, path, column) if column in parquet_columns(path) else None


def _read(columns: Sequence[tuple[str, Path, str]]) -> pd.DataFrame:
    """Return slide, cell_id, truth and a column a row, by its title; all tell of the same cells.

    Texts stay categories, as evaluate writes them: those of a whole cohort would take gigabytes.
    """
    table = pd.DataFrame()
    for title, path, column in columns:
        read = read_parquet(path, [*_KEYS, _TRUTH, column]).astype("category")
        if table.empty:
            table = read[[*_KEYS, _TRUTH]]
        told, asked = (pd.Index(_code(cells, table)) for cells in (read, table))
        if len(told) != len(asked) or not told.is_unique or ((order := told.get_indexer(asked)) < 0).any():
            raise InputError(path, "it tells of other cells than the other rows of its table", "run evaluate again")
        table = table.assign(**{title: read[column].array[order]})
    return table


def _code(read: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.int64]:
    """Return [n] a number for each cell of `read`, the same as in `table`; -1 where it has no such slide or cell."""
    slide, cell = (read[name].cat.set_categories(table[name].cat.categories).cat.codes.astype(int) for name in _KEYS)
    return np.where((slide < 0) | (cell < 0), -1, slide * len(table["cell_id"].cat.categories) + cell)


def _colours(truth: pd.Series) -> dict[str, str]:
    """Return class -> colour; where there are more classes than colours, the rare ones share the last."""
    counts = truth.value_counts()
    common = counts[counts > 0].index[: _MOST_CLASSES if truth.nunique() <= _MOST_CLASSES else _MOST_CLASSES - 1]
    names = sorted(common)
    found = dict(zip(names, theme.GROUP_COLOURS, strict=False))
    return found if truth.nunique() == len(names) else found | {OTHERS: theme.SPLIT_COLOURS["gap"]}


def _map(item: Comparison, slide: SlideSource, own: pd.DataFrame, colours: Mapping[str, str], album: Album) -> Picture:
    cells = read_parquet(slide.folder / "cells.parquet", ["cell_id", "x_um", "y_um"])
    rows = pd.Index(cells["cell_id"]).get_indexer(pd.Index(own["cell_id"]))
    if (rows < 0).any():
        what = f"{int((rows < 0).sum())} scored cells of slide {slide.name} are not in the dataset"
        raise InputError(f"evaluation of {item.task}, protocol {item.protocol}", what, "run evaluate again")
    drawn = drawn_cells(len(cells), slide.name, album.seed)[:_MOST_DOTS]
    titles = [name for name in own.columns if name not in ("slide", "cell_id")]
    panels = []
    for title in titles:
        group = np.full(len(cells), None, dtype=object)
        group[rows] = _named(own[title], own[_TRUTH], colours)
        told = "" if title == _TRUTH else _right(own[title], own[_TRUTH])
        panels.append(Dots(f"{title}{told}", group[drawn]))
    shown = sorted(own[_TRUTH].unique())
    legend = {name: colour for name, colour in colours.items() if name in shown or name == OTHERS}
    legend |= {name: colour for name, colour in colours.items() if any((panel.group == name).any() for panel in panels)}
    others = any((panel.group == OTHERS).any() for panel in panels)
    grey = " Grey cells are not scored." if len(own) < len(cells) else ""
    grey += f" {OTHERS.capitalize()}: classes that no tested cell has, or too many to colour." if others else ""
    return theme.tissue(
        partial(
            dots, xy=cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)[drawn], drawn=panels,
            colours={name: legend[name] for name in colours if name in legend}, is_tissue=True,
        ),
        folder=album.folder,
        name=f"{item.task}.{item.protocol}.{slide.name}.map",
        alt=f"slide {slide.name}: {item.task} as labelled and as {' and '.join(titles[1:])} say",
        caption=f"{slide.name}: as labelled, and as the best model and a control see it (first seed).{grey}",
        budget=album.budget,
    )  # fmt: skip


def _named(answers: pd.Series, truth: pd.Series, colours: Mapping[str, str]) -> list[str]:
    """Return the class whose colour each cell gets; clusters get that of the class they share most cells with."""
    if answers.isin(truth.unique()).mean() > 0.5:
        return [name if name in colours else OTHERS for name in answers]
    table = pd.crosstab(answers, truth)
    cluster, label = linear_sum_assignment(table.to_numpy(), maximize=True)
    match = {table.index[c]: table.columns[name] for c, name in zip(cluster, label, strict=True)}
    return [match.get(name, OTHERS) if match.get(name, OTHERS) in colours else OTHERS for name in answers]


def _right(answers: pd.Series, truth: pd.Series) -> str:
    """Return the share that is right; empty for clusters, which have no right or wrong."""
    if answers.isin(truth.unique()).mean() <= 0.5:
        return " (clusters)"
    return f" ({100 * (answers == truth).mean():.0f} % right)"
