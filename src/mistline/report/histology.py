"""What the page shows of an H&E: where it lies on DAPI, its records beside those of DAPI, and the check's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mistline.core.files import read_parquet
from mistline.core.geometry import um_to_px
from mistline.core.seeds import generator
from mistline.mist.pyramid import Level
from mistline.report.pictures import Album
from mistline.report.plots import sheet, theme
from mistline.report.plots.theme import Picture
from mistline.report.sources import SlideSource, read_rows
from mistline.report.tables import Row, Table, cell, columns, row
from mistline.store.reader import ShardReader

PICTURES = 2  # a slide, of the page's budget
_PLACES = 6
_PLACE_UM = 60.0
_SHOWN_PX = 480
_PAIRS = 9
_OUTLINE = (0, 255, 90)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class HeView:
    """The pictures of one slide's H&E."""

    sentence: str
    places: Picture
    pairs: Picture


def view_he(slide: SlideSource, album: Album) -> HeView | None:
    """Draw one slide's H&E; None where it has none."""
    if slide.he is None:
        return None
    return HeView(_sentence(slide.he), _places(slide, album), _pairs(slide, album))


def he_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide that has an H&E: what the check of its alignment found."""
    numbers = ("correlation", "elsewhere", "best fit (µm away)", "places (µm)", "landmarks (µm)", "cells not covered")
    notes = {
        "elsewhere": "the highest correlation at another place, or with the matrix read in another way",
        "best fit (µm away)": "offset at which haematoxylin and DAPI correlate most",
        "places (µm)": "90th percentile of that offset over places of the slide",
        "landmarks (µm)": "error of a landmark, where landmarks gave the alignment",
        "cells not covered": "cells that do not lie wholly on the H&E",
    }
    return Table(
        "he",
        "H&E: how haematoxylin fits DAPI where the alignment puts it, and elsewhere.",
        columns("slide", "alignment", *numbers, "remark", numeric=numbers, notes=notes),
        tuple(_line(slide.name, slide.he) for slide in slides if slide.he is not None),
    )


def _line(name: str, found: Mapping[str, Any]) -> Row:
    check = found["check"]
    fit, landmarks = check["dapi"], check["landmarks"]
    rivals = list(check["other_readings"].values())
    correlation = away = places = None
    if fit is not None:
        correlation, away = fit["correlation"], math.hypot(*fit["offset_um"])
        places = fit["local_um"][1] if fit["local_um"] else None
        rivals.append(fit["elsewhere"])
    error = landmarks["error_um"] if landmarks else None
    figures = (cell(correlation), cell(max(rivals, default=None)), cell(away, 1), cell(places, 1), cell(error, 1))
    remark = "; ".join(found["warnings"])
    return row(name, found["source"]["alignment"], *figures, found["cells"]["not_covered"], remark)


def _sentence(found: Mapping[str, Any]) -> str:
    fit = found["check"]["dapi"]
    covered = f"It covers {found['covered_share']:.1%} of the image."
    if fit is None:
        return f"The alignment was not compared with DAPI. {covered}"
    return (
        f"Haematoxylin and DAPI correlate by {fit['correlation']:.2f} where the alignment puts them, and by at most "
        f"{fit['elsewhere']:.2f} further than a nucleus away ({fit['n_windows']} windows, {fit['n_nuclei']:,} nuclei). "
        f"{covered}"
    )


def _places(slide: SlideSource, album: Album) -> Picture:
    """Draw the H&E at some cells, with the outlines of what is bright in DAPI."""
    pair = [Level(slide.folder / name) for name in ("image.ome.zarr", "he/image.ome.zarr")]
    cells = read_parquet(slide.folder / "cells.parquet", ("cell_id", "x_um", "y_um"))
    chosen = np.unique(np.linspace(0, len(cells) - 1, _PLACES + 2).astype(int)[1:-1])
    side = min(round(_PLACE_UM / slide.pixel_size_um), *pair[1].shape[1:])
    tiles = []
    for _, line in cells.iloc[chosen].iterrows():
        centre = um_to_px(np.array([line["x_um"], line["y_um"]]), slide.pixel_size_um)
        top, left = (
            int(np.clip(at - side / 2, 0, whole - side)) for at, whole in zip(centre, pair[1].shape[1:], strict=True)
        )
        rows, columns = slice(top, top + side), slice(left, left + side)
        dapi, he = (level.read(slice(None), rows, columns) for level in pair)
        pixels = _outlined(
            np.moveaxis(he, 0, 2), dapi[slide.image["channels"].index("DAPI") if _has_dapi(slide) else 0]
        )
        tiles.append(sheet.Tile(pixels, side * slide.pixel_size_um, f"around {line['cell_id']}", _at(line)))
    return theme.tissue(
        partial(sheet.sheet, tiles=tiles),
        folder=album.folder,
        name=f"{slide.name}.he_alignment",
        alt=f"H&E of slide {slide.name} at {len(tiles)} places with the outlines of nuclei in DAPI",
        caption=f"The registered H&E at {len(tiles)} places down the slide; green: outlines of what is bright in "
        f"{'DAPI' if _has_dapi(slide) else slide.channel}. Outlines must lie around the dark nuclei.",
        budget=album.budget,
    )


def _pairs(slide: SlideSource, album: Album) -> Picture:
    """Draw some cells' records of both sources side by side."""
    index = slide.index("cell")
    readers = ShardReader(slide.shards("cell")), ShardReader(slide.folder / "he" / "shards" / "cell")
    n = len(readers[0])
    rows = np.sort(generator(album.seed, "report", "he", slide.name).permutation(n)[:_PAIRS])
    tiles = []
    for line in read_rows(index, rows).to_dict("records"):
        records = [reader[int(line["key"])] for reader in readers]
        side_um = float(line["side_px"]) * slide.pixel_size_um
        tiles.append(sheet.Tile(_fitting(records[0].image[0]), side_um, str(line["cell_id"]), slide.channel))
        tiles.append(sheet.Tile(_fitting(np.moveaxis(records[1].image, 0, 2)), side_um, str(line["cell_id"]), "H&E"))
    return theme.tissue(
        partial(sheet.sheet, tiles=tiles),
        folder=album.folder,
        name=f"{slide.name}.he_cells",
        alt=f"{len(rows)} cells of slide {slide.name} in {slide.channel} and in H&E",
        caption=f"{len(rows)} of {n:,} cells drawn at random (seed {album.seed}): the records of one key in "
        f"{slide.channel} and in H&E.",
        budget=album.budget,
    )


def _has_dapi(slide: SlideSource) -> bool:
    return "DAPI" in slide.image["channels"]


def _at(line: Mapping[str, Any]) -> str:
    return f"x {line['x_um']:,.0f}, y {line['y_um']:,.0f} µm"


def _fitting(pixels: Pixels) -> Pixels:
    if max(pixels.shape[:2]) <= _SHOWN_PX:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(pixels, (_SHOWN_PX, _SHOWN_PX), interpolation=cv2.INTER_AREA))


def _outlined(he: Pixels, dapi: Pixels) -> Pixels:
    """Draw the outlines of what is bright in DAPI on the H&E, both enlarged."""
    shown = cv2.resize(np.ascontiguousarray(he), (_SHOWN_PX, _SHOWN_PX), interpolation=cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(cv2.resize(dapi, (_SHOWN_PX, _SHOWN_PX), interpolation=cv2.INTER_LINEAR), (0, 0), 2)
    _, bright = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, _OUTLINE, 3, cv2.LINE_AA)
    return np.asarray(shown)
