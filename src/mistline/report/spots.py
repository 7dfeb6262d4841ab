"""A slide given as a table: its maps as dots, its distributions, and its lines in the tables; there is no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.report.pictures import Album, SlideView, drawn_cells, of_all
from mistline.report.plots import distributions, theme, tissue
from mistline.report.plots.theme import Picture
from mistline.report.sources import OVERVIEW_PX, SlideSource
from mistline.report.tables import Table, cell, columns, row

_MAPPED_LABELS = 3
_MOST_CLASSES = 30  # more colours than these cannot be told apart
_MARGIN = 0.03  # of the longer side, around the dots
_COLUMNS = ("x_um", "y_um", "n_counts", "n_genes")
_SUMS = {"counts": "counts", "normalised": "normalised values", "log": "log values"}


def view_spots(slide: SlideSource, album: Album) -> SlideView:
    """Draw one slide.

    Raises:
        InputError: cells and splits are not equally many.
    """
    path = slide.folder / "cells.parquet"
    labels = [name for name in parquet_columns(path) if name.startswith("label_")]
    cells = read_parquet(path, [*_COLUMNS, *labels])
    sides = read_parquet(slide.splits_file, ["split"])["split"]
    if len(sides) != len(cells):
        what = f"{len(cells)} cells, and {len(sides)} in the split file"
        raise InputError(slide.folder, what, "run make-splits again")
    maps: tuple[Picture, ...] = ()
    if slide.bundle["has_coordinates"]:
        ground, xy_um = _ground(cells[["x_um", "y_um"]].to_numpy(dtype=np.float64))
        maps = (
            _map(slide, ground, xy_um, sides, theme.SPLIT_COLOURS, album),
            *(_map(slide, ground, xy_um, cells[name], _colours(cells[name]), album) for name in _mapped(cells, labels)),
        )
    return SlideView(
        name=slide.name,
        subtitle=f"{slide.tissue}, {slide.disease}; donor {slide.donor}; {len(cells):,} cells or spots",
        qc_pair=maps,
        distributions=_distributions(slide, cells, album) if slide.bundle["panel"]["n_genes"] else None,
        intensity=None,
        sheets=(),
        groups=None,
        medians={name: float(cells[name].median()) for name in ("n_counts", "n_genes")},
        metacell_sizes=np.zeros(0, dtype=np.int64),
    )


def slides_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide: whose tissue it is and what it was read from."""
    titles = ("slide", "donor", "tissue", "disease", "read from", "values", "extent (mm)", "µm a unit", "known from")
    lines = [
        row(
            slide.name, slide.donor, slide.tissue, slide.disease, str(slide.bundle["kind"]),
            str(slide.bundle["values"]), _extent(slide), cell(slide.bundle["um_per_unit"], 4),
            str(slide.bundle["um_per_unit_from"] or ""),
        )
        for slide in slides
    ]  # fmt: skip
    notes = {"extent (mm)": "width and height of what the cells cover", "µm a unit": "of the table's coordinates"}
    return Table("slides", "Slides.", columns(*titles, numeric=("µm a unit",), notes=notes), tuple(lines))


def qc_table(slides: Sequence[SlideSource], medians: Mapping[str, Mapping[str, float]]) -> Table:
    """Return one line a slide: per-cell medians and labels.

    Args:
        slides: the slides.
        medians: slide -> column of cells.parquet -> median.
    """
    lines = [
        row(
            slide.name, slide.cells["n_kept"], cell(medians[slide.name]["n_counts"], 1),
            cell(medians[slide.name]["n_genes"], 0),
            "; ".join(f"{name} ({n:,})" for name, n in sorted(slide.cells["labels"].items())),
        )
        for slide in slides
    ]  # fmt: skip
    titles = ("slide", "cells", "sum a cell", "genes a cell", "labelled cells")
    notes = {"sum a cell": "median of the sum of its values", "genes a cell": "median of genes above zero"}
    return Table(
        "qc", "Quality at a glance: medians over kept cells.", columns(*titles, numeric=titles[1:4], notes=notes),
        tuple(lines),
    )  # fmt: skip


def _extent(slide: SlideSource) -> str:
    if not slide.bundle["has_coordinates"]:
        return "no coordinates"
    width, height = np.ptp(read_parquet(slide.folder / "cells.parquet", ["x_um", "y_um"]).to_numpy(), axis=0) / 1000
    return f"{width:.2f} × {height:.2f}"


def _ground(xy_um: NDArray[np.float64]) -> tuple[tissue.Overview, NDArray[np.float64]]:
    """Return black ground that the dots just fill, and the places of the dots on it."""
    margin = _MARGIN * max(float(np.ptp(xy_um, axis=0).max()), 1.0)
    width, height = np.ptp(xy_um, axis=0) + 2 * margin
    um_per_px = max(width, height) / OVERVIEW_PX
    shape = (max(1, round(height / um_per_px)), max(1, round(width / um_per_px)))
    return tissue.Overview(np.zeros(shape, dtype=np.uint8), um_per_px), xy_um - xy_um.min(axis=0) + margin


def _mapped(cells: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """Return the label columns that a map can show: some classes, and not too many."""
    return [name for name in labels if 2 <= cells[name].nunique() <= _MOST_CLASSES][:_MAPPED_LABELS]


def _colours(column: pd.Series) -> dict[str, str]:
    names = sorted(column.dropna().unique())
    found = {name: theme.GROUP_COLOURS[place % len(theme.GROUP_COLOURS)] for place, name in enumerate(names)}
    return found | ({"unknown": theme.SPLIT_COLOURS["gap"]} if column.isna().any() else {})


def _map(
    slide: SlideSource,
    ground: tissue.Overview,
    xy_um: NDArray[np.float64],
    column: pd.Series,
    colours: Mapping[str, str],
    album: Album,
) -> Picture:
    names = list(colours)
    title = str(column.name).removeprefix("label_")
    codes = pd.Categorical(column.fillna("unknown"), categories=names).codes.astype(np.int64)
    totals = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
    drawn = drawn_cells(len(codes), slide.name, album.seed)
    groups = tissue.Groups(xy_um[drawn], codes[drawn], colours, totals)
    return theme.tissue(
        partial(tissue.cells, overview=ground, groups=groups),
        folder=album.folder,
        name=f"{slide.name}.{'splits' if title == 'split' else _file_name(title)}",
        alt=f"cells of slide {slide.name} coloured by {title}",
        caption=f"{slide.name} by {title}{of_all(len(drawn), len(codes))}.",
        budget=album.budget,
    )


def _file_name(title: str) -> str:
    return "label_" + "".join(letter if letter.isalnum() else "_" for letter in title)


def _distributions(slide: SlideSource, cells: pd.DataFrame, album: Album) -> Picture:
    what = _SUMS[str(slide.bundle["values"])]
    sums, genes = (cells[name].to_numpy(dtype=np.float64) for name in ("n_counts", "n_genes"))
    quantities = [
        distributions.Quantity("Sum a cell", what, sums, logarithmic=slide.bundle["values"] == "counts"),
        distributions.Quantity("Genes a cell", "genes above zero", genes),
    ]
    return theme.chart(
        partial(distributions.small_multiples, quantities=quantities),
        folder=album.folder,
        name=f"{slide.name}.distributions",
        alt=f"histograms of {what} and genes of the cells of slide {slide.name}",
        caption="Kept cells; the line is the median.",
    )
