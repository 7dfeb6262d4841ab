"""The pictures of one slide: overview, distributions, sheets of records, maps of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.report import Report
from mistline.config.scales import Scale
from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.core.seeds import generator
from mistline.report.plots import distributions, sheet, theme, tissue
from mistline.report.plots.theme import Picture
from mistline.report.sources import SPLITS, SlideSource, n_rows, read_overview, read_rows
from mistline.store.reader import ShardReader

_DRAWN_CELLS = 60_000  # more dots than pixels tell nothing
_TILE_PX = 480
_CELL_COLUMNS = ("x_um", "y_um", "n_counts", "n_genes", "cell_area_um2", "n_nuclei")


@dataclass(frozen=True)
class Album:
    """Where pictures go and how large they may be.

    Attributes:
        folder: of PNG and SVG files.
        budget: bytes of one embedded picture.
        seed: the run's seed.
    """

    folder: Path
    budget: int
    seed: int


@dataclass(frozen=True)
class SheetView:
    """A sheet with its heading, or the reason why there is none."""

    title: str
    picture: Picture | None
    reason: str = ""


@dataclass(frozen=True)
class SlideView:
    """Everything the page shows of one slide; a table has no image, no records and no meta-cells."""

    name: str
    subtitle: str
    qc_pair: tuple[Picture, ...]
    distributions: Picture | None
    intensity: Picture | None
    sheets: tuple[SheetView, ...]
    groups: Picture | None
    medians: Mapping[str, float]
    metacell_sizes: NDArray[np.int64]


def view_slide(slide: SlideSource, scales: Sequence[Scale], level: str, settings: Report, album: Album) -> SlideView:
    """Draw one slide.

    Args:
        slide: where its results lie.
        scales: all scales, the cell included.
        level: column of metacells.parquet to map, such as `l1`.
        settings: the report section.
        album: where the pictures go.
    """
    overview = read_overview(slide)
    cells = read_parquet(slide.folder / "cells.parquet", _CELL_COLUMNS)
    metacells = read_parquet(slide.folder / "metacells.parquet", ["metacell", level])
    sides = read_parquet(slide.splits_file, ["split"])["split"]
    _same_length(slide, cells, metacells, sides)
    drawn = drawn_cells(len(cells), slide.name, album.seed)
    xy_um = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    return SlideView(
        name=slide.name,
        subtitle=f"{slide.tissue}, {slide.disease}; donor {slide.donor}; {len(cells):,} cells",
        qc_pair=(
            _morphology(slide, overview, album),
            _split_map(slide, overview, xy_um, sides, drawn, album),
        ),
        distributions=_distributions(slide, cells, album),
        intensity=_intensity(slide, overview, album),
        sheets=tuple(_sheet(slide, scale, settings, album) for scale in scales),
        groups=_group_map(slide, overview, xy_um, metacells[level], drawn, album),
        medians=_medians(cells),
        metacell_sizes=np.bincount(metacells["metacell"].to_numpy(dtype=np.int64)),
    )


def _same_length(slide: SlideSource, cells: pd.DataFrame, *others: Any) -> None:
    if any(len(other) != len(cells) for other in others):
        raise InputError(
            slide.folder,
            f"cells, meta-cells and splits list {len(cells)}, {', '.join(str(len(other)) for other in others)} cells",
            "run assign-metacells and make-splits again",
        )


def drawn_cells(n: int, slide: str, seed: int) -> NDArray[np.int64]:
    """Return the cells that are drawn: all, or a seeded sample; shuffled, so that no group covers another."""
    return generator(seed, "report", "drawn", slide).permutation(n)[:_DRAWN_CELLS]


def _medians(cells: pd.DataFrame) -> dict[str, float]:
    found = {name: float(cells[name].median()) for name in ("n_counts", "n_genes", "cell_area_um2")}
    return found | {
        "without_nucleus": float((cells["n_nuclei"] == 0).sum()),
        "total_counts": float(cells["n_counts"].sum()),
    }


def _morphology(slide: SlideSource, overview: tissue.Overview, album: Album) -> Picture:
    kind = slide.image["source"][slide.channel]
    return theme.tissue(
        partial(tissue.morphology, overview=overview),
        folder=album.folder,
        name=f"{slide.name}.morphology",
        alt=f"{slide.channel} image of slide {slide.name} with a scale bar",
        caption=f"{slide.channel} from the {kind}, 8 bit, as in the dataset.",
        budget=album.budget,
    )


def _split_map(
    slide: SlideSource,
    overview: tissue.Overview,
    xy_um: NDArray[np.float64],
    sides: pd.Series,
    drawn: NDArray[np.int64],
    album: Album,
) -> Picture:
    codes = pd.Categorical(sides, categories=list(SPLITS)).codes.astype(np.int64)
    totals = dict(zip(SPLITS, np.bincount(codes, minlength=len(SPLITS)).tolist(), strict=True))
    groups = tissue.Groups(xy_um[drawn], codes[drawn], theme.SPLIT_COLOURS, totals)
    return theme.tissue(
        partial(tissue.cells, overview=overview, groups=groups),
        folder=album.folder,
        name=f"{slide.name}.splits",
        alt=f"cells of slide {slide.name} coloured by split",
        caption=f"Centroids of cells, coloured by split{of_all(len(drawn), len(xy_um))}.",
        budget=album.budget,
    )


def _group_map(
    slide: SlideSource,
    overview: tissue.Overview,
    xy_um: NDArray[np.float64],
    level: pd.Series,
    drawn: NDArray[np.int64],
    album: Album,
) -> Picture:
    codes = level.to_numpy(dtype=np.int64)
    names = [str(number) for number in range(int(codes.max()) + 1)]
    colours = {name: theme.GROUP_COLOURS[place % len(theme.GROUP_COLOURS)] for place, name in enumerate(names)}
    totals = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
    groups = tissue.Groups(xy_um[drawn], codes[drawn], colours, totals)
    return theme.tissue(
        partial(tissue.cells, overview=overview, groups=groups),
        folder=album.folder,
        name=f"{slide.name}.{level.name}",
        alt=f"cells of slide {slide.name} coloured by their group at level {level.name}",
        caption=f"{slide.name}: {len(xy_um):,} cells{of_all(len(drawn), len(xy_um))}.",
        budget=album.budget,
    )


def of_all(drawn: int, n: int) -> str:
    """Say how many were drawn, where not all were."""
    return "" if drawn == n else f"; {drawn:,} of {n:,} drawn"


def _distributions(slide: SlideSource, cells: pd.DataFrame, album: Album) -> Picture:
    quantities = [
        distributions.Quantity("Counts a cell", "transcripts of genes", _floats(cells["n_counts"]), logarithmic=True),
        distributions.Quantity("Genes a cell", "genes with a transcript", _floats(cells["n_genes"])),
        distributions.Quantity("Cell area", "µm²", _floats(cells["cell_area_um2"]), decimals=1),
    ]
    return theme.chart(
        partial(distributions.small_multiples, quantities=quantities),
        folder=album.folder,
        name=f"{slide.name}.distributions",
        alt=f"histograms of counts, genes and area of the cells of slide {slide.name}",
        caption="Kept cells; the line is the median.",
    )


def _floats(column: pd.Series) -> NDArray[np.float64]:
    return column.to_numpy(dtype=np.float64)


def _intensity(slide: SlideSource, overview: tissue.Overview, album: Album) -> Picture:
    """Draw the histogram of the overview's pixels, on the axis of raw intensities.

    The 8-bit values of the overview are put back on the raw scale by the recorded window, which is exact up
    to the rounding to 256 steps.
    """
    low, high = (float(value) for value in slide.image["window"][slide.channel])
    step = (high - low) / 255
    data = distributions.Intensities(
        edges=low + step * (np.arange(257) - 0.5),
        counts=np.bincount(overview.pixels.ravel(), minlength=256),
        window=(low, high),
        unit=f"raw {slide.channel} intensity",
    )
    return theme.chart(
        partial(distributions.intensity, data=data),
        folder=album.folder,
        name=f"{slide.name}.intensity",
        alt=f"histogram of {slide.channel} intensities of slide {slide.name} with the recorded window",
        caption=f"Intensities of the picture above and the recorded window ({slide.image['window_mode']}): what lies "
        "below or above it is drawn at its ends.",
    )


def _sheet(slide: SlideSource, scale: Scale, settings: Report, album: Album) -> SheetView:
    wanted = settings.crops_per_slide if scale.unit == "cell" else max(1, settings.crops_per_slide // 2)
    index = slide.index(scale.name)
    n = n_rows(index)
    title = "Cell crops"
    if scale.size_px is not None:
        title = f"Tiles of scale {scale.name}: {scale.size_px} px, {scale.size_px * slide.pixel_size_um:.1f} µm"
    if n == 0:
        return SheetView(title, None, "No record of this scale is stored for the slide.")
    rows = np.sort(generator(album.seed, "report", "sheet", slide.name, scale.name).permutation(n)[:wanted])
    table = read_rows(index, rows)
    reader = ShardReader(slide.shards(scale.name))
    tiles = [_tile(slide, scale, reader, line) for line in table.to_dict("records")]
    picture = theme.tissue(
        partial(sheet.sheet, tiles=tiles),
        folder=album.folder,
        name=f"{slide.name}.{scale.name}",
        alt=f"{len(tiles)} records of scale {scale.name} of slide {slide.name}",
        caption=f"{len(tiles)} of {n:,} drawn at random (seed {album.seed}), channel {slide.channel}.",
        budget=album.budget,
    )
    return SheetView(title, picture)


def _tile(slide: SlideSource, scale: Scale, reader: ShardReader, line: Mapping[str, Any]) -> sheet.Tile:
    pixels = reader[int(line["key"])].image[0]
    side_um = float(line["side_px"]) * slide.pixel_size_um
    if max(pixels.shape) > _TILE_PX:
        pixels = cv2.resize(pixels, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
    if scale.unit == "cell":
        return sheet.Tile(pixels, side_um, str(line["cell_id"]), f"{side_um:.1f} µm, {line['n_counts']:,} counts")
    n = int(line["n_cells"])
    return sheet.Tile(pixels, side_um, str(line[f"{scale.name}_id"]), f"{side_um:.0f} µm, {n:,} cell{'s' * (n != 1)}")
