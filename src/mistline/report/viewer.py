"""The tissue viewer of the page: what its script draws, as small numbers and pictures within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mistline.config.report import Report
from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.core.geometry import um_to_px
from mistline.core.log import progress
from mistline.core.seeds import generator
from mistline.report.sources import SlideSource
from mistline.report.viewer_columns import Column, Vocabulary, columns, vocabulary
from mistline.report.viewer_images import Layer, add_crops, add_layer
from mistline.report.viewer_imputed import Layers, read_layers
from mistline.report.viewer_pack import Blocks, json_text, narrow
from mistline.store.embeddings import read_origin
from mistline.store.reader import ShardReader

BUDGET_BYTES = 8 * 10**6
_CELLS_SHARE = 0.6  # of a slide's bytes: numbers; of the rest, the pictures get most
_CROPS_SHARE = 0.3
_MARGIN = 0.03  # of the longer side, around cells without an image
_RADIUS = 0.38  # of the distance to the nearest cell
_CODES = 65_535
_MAP_STEPS = 16


@dataclass(frozen=True)
class Viewer:
    """What the template fills in.

    Attributes:
        about: JSON of all slides, safe in a script element.
        blocks: base64 texts, by number.
        slides: names of the slides.
        notes: sentences on what is left out.
    """

    about: Markup
    blocks: Sequence[str]
    slides: Sequence[str]
    notes: Sequence[str]

    @property
    def size(self) -> int:
        """Bytes it adds to the page."""
        return sum(map(len, self.blocks)) + len(self.about.encode())


@dataclass(frozen=True)
class _Slide:
    """One slide's cells before they are stored."""

    source: SlideSource
    ids: NDArray[np.str_]
    xy_um: NDArray[np.float64]
    columns: Sequence[Column]
    squares: NDArray[np.int64] | None


def build(
    slides: Sequence[SlideSource],
    settings: Report,
    seed: int,
    version: str,
    predictions: Sequence[Path] = (),
    added: Sequence[Path] = (),
    budget: int = BUDGET_BYTES,
) -> Viewer | None:
    """Pack every slide that has coordinates; None where no slide has.

    Args:
        slides: where their results lie.
        settings: the report section.
        seed: the run's seed, which draws the cells and crops where not all fit.
        version: of the dataset, which the predictions must be made from.
        predictions: files of models' predictions, `<task>/<protocol>/<model>.seed-<seed>.parquet`.
        added: files of genes that no slide measures, as models imputed them.
        budget: bytes the viewer may add to the page.

    Raises:
        InputError: files of a slide list different cells, one is missing, or predictions are of another dataset.
    """
    shown = [slide for slide in slides if slide.bundle.get("has_coordinates", True)]
    if not shown:
        return None
    for path in predictions:
        made_from = read_origin(path).dataset_version
        if made_from != version:
            what = f"was made from dataset {made_from[:12]}, the report is of {version[:12]}"
            raise InputError(path, what, "run predict again")
    layers = read_layers(added, shown, settings.viewer_genes, settings.viewer_markers, version)
    markers = [marker for marker in settings.viewer_markers if marker not in layers.markers]
    shared = vocabulary(shown, settings.viewer_genes, markers, predictions)
    blocks = Blocks()
    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    for number, slide in enumerate(progress(shown, "pack")):
        share = (budget - blocks.size) // (len(shown) - number)
        entries.append(_pack(blocks, _read(slide, shared, layers), settings, share, seed))
        notes += _left_out(entries[-1])
    left_out = [slide.name for slide in slides if slide not in shown]
    notes += [f"Without coordinates, and so not shown: {', '.join(left_out)}."] if left_out else []
    ramp = mpl.colormaps["viridis"](np.linspace(0, 1, _MAP_STEPS), bytes=True)[:, :3]
    about = {"slides": entries, "palettes": blocks.palettes, "ramp": ramp.tolist()}
    return Viewer(json_text(about), blocks.texts, [slide.name for slide in shown], notes)


def _read(slide: SlideSource, shared: Vocabulary, layers: Layers) -> _Slide:
    cells = read_parquet(slide.folder / "cells.parquet", ["cell_id", "x_um", "y_um"])
    squares = None
    if slide.image:
        path = slide.index("cell")
        squares = read_parquet(path, ["row_px", "col_px", "side_px"]).to_numpy(dtype=np.int64)
        if len(squares) != len(cells):
            what = f"lists {len(squares)} cells, cells.parquet {len(cells)}"
            raise InputError(path, what, "run cut_crops for this slide again")
    ids = cells["cell_id"].to_numpy(dtype=str)
    return _Slide(
        source=slide,
        ids=ids,
        xy_um=cells[["x_um", "y_um"]].to_numpy(dtype=np.float64),
        columns=[*columns(slide, shared), *layers.columns(slide, ids)],
        squares=squares,
    )


def _pack(blocks: Blocks, slide: _Slide, settings: Report, budget: int, seed: int) -> dict[str, Any]:
    """Store one slide: cells first, then crops, and of the image what there is room for; return its entry."""
    source, end = slide.source, blocks.size + budget
    order = generator(seed, "report", "viewer", source.name).permutation(len(slide.ids))
    has_pictures = source.image or source.patches is not None
    cells_budget = int(budget * (_CELLS_SHARE if has_pictures else 1.0))
    entry, taken = _cells(blocks, slide, order[: settings.viewer_cells], cells_budget)
    entry |= {"name": source.name, "n_all": len(slide.ids), "radius_um": _radius(slide.xy_um)}
    entry["subtitle"] = f"{source.tissue}, {source.disease}; donor {source.donor}"
    entry |= {"layers": [], "crops": None, "world_um": _around(slide.xy_um)}
    if source.patches is not None:
        entry["crops"] = _crops(blocks, source, taken, settings.viewer_crops, end - blocks.size, seed)
        if entry["crops"] is not None:
            entry["crops"]["side_um"] = source.patches["side_um"]
    if source.image:
        rows, cols = source.image["shape_px"]
        entry["world_um"] = [0.0, 0.0, cols * source.pixel_size_um, rows * source.pixel_size_um]
        room = int((end - blocks.size) * _CROPS_SHARE)
        entry["crops"] = _crops(blocks, source, taken, settings.viewer_crops, room, seed)
        layers = _layers(source)
        for number, layer in enumerate(layers):
            levels = add_layer(blocks, layer, (end - blocks.size) // (len(layers) - number))
            entry["layers"].append({"name": layer.name, "levels": levels})
    return entry


def _cells(
    blocks: Blocks, slide: _Slide, drawn: NDArray[np.int64], budget: int
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Store cells and their columns, of fewer cells where not all fit; return the entry and the rows that are in."""
    start, before = len(blocks.texts), blocks.size
    while True:
        taken = np.sort(drawn)
        entry = _store(blocks, slide, taken)
        used = blocks.size - before
        if used <= budget or len(drawn) == 1:
            return entry, taken
        blocks.cut(start)
        drawn = drawn[: max(1, min(len(drawn) - 1, int(len(drawn) * budget / used * 0.97)))]


def _store(blocks: Blocks, slide: _Slide, taken: NDArray[np.int64]) -> dict[str, Any]:
    low = slide.xy_um.min(axis=0)
    step = np.maximum(np.ptp(slide.xy_um, axis=0) / _CODES, 1e-9)
    places = np.round((slide.xy_um[taken] - low) / step).astype(np.uint16)
    entry: dict[str, Any] = {
        "n": len(taken),
        "xy": {"block": blocks.add_array(places.T.ravel()), "low": low.tolist(), "step": step.tolist()},
        "ids": blocks.add_lines(slide.ids[taken].tolist()),
        "columns": [_column(blocks, column, taken) for column in slide.columns],
        "squares": None,
    }
    if slide.squares is not None:
        stored_um = low + places * step  # as the script computes them, to the last bit
        entry["squares"] = _squares(blocks, slide.squares[taken], stored_um, slide.source.pixel_size_um)
    return entry


def _column(blocks: Blocks, column: Column, taken: NDArray[np.int64]) -> dict[str, Any]:
    codes = column.codes[taken]
    found: dict[str, Any] = {
        "title": column.title,
        "group": column.group,
        "block": blocks.add_array(codes),
        "bytes": codes.dtype.itemsize,
    }
    if column.names is None:
        found |= {"low": column.low, "step": column.step, "range": list(column.range)}
        return found | (_imputed(blocks, column, taken) if column.imputed else {})
    return found | {"palette": blocks.add_palette(column.names, column.colours or ())}


def _imputed(blocks: Blocks, column: Column, taken: NDArray[np.int64]) -> dict[str, Any]:
    """Store who imputed a gene, and how unsure that model is."""
    if column.sd is None:
        return {"imputed": column.imputed}
    codes = column.sd.codes[taken]
    sd = {"block": blocks.add_array(codes), "bytes": codes.dtype.itemsize, "low": column.sd.low, "step": column.sd.step}
    return {"imputed": column.imputed, "sd": sd}


def _squares(
    blocks: Blocks, squares: NDArray[np.int64], stored_um: NDArray[np.float64], pixel_size_um: float
) -> dict[str, Any]:
    """Store row, column and side of the crops [n, 3]; corners as distances from the cells' pixels, which are small."""
    pixel = np.floor(um_to_px(stored_um, pixel_size_um)).astype(np.int64)
    numbers = np.column_stack([squares[:, :2] - pixel, squares[:, 2]])
    low = numbers.min(axis=0)
    codes = narrow((numbers - low).T.ravel())
    return {
        "block": blocks.add_array(codes),
        "bytes": codes.dtype.itemsize,
        "low": low.tolist(),
        "um_per_px": pixel_size_um,
    }


def _crops(
    blocks: Blocks, slide: SlideSource, taken: NDArray[np.int64], most: int, budget: int, seed: int
) -> dict[str, Any] | None:
    """Store the crops of some of the cells that are in, by their place among them."""
    drawn = generator(seed, "report", "viewer crops", slide.name).permutation(len(taken))[:most]
    found = add_crops(blocks, ShardReader(slide.shards("cell")), taken[drawn].tolist(), budget)
    if found is not None:
        found["places"] = {str(place): corner for place, corner in zip(drawn.tolist(), found["places"], strict=False)}
    return found


def _layers(slide: SlideSource) -> list[Layer]:
    rows, columns = slide.image["shape_px"]
    shape = (int(rows), int(columns))
    path = slide.folder / "image.ome.zarr"
    found = [Layer(slide.channel, path, slice(0, 1), shape, slide.pixel_size_um)]
    if slide.he is not None:
        found.append(Layer("H&E", slide.folder / "he" / "image.ome.zarr", slice(0, 3), shape, slide.pixel_size_um))
    return found


def _radius(xy_um: NDArray[np.float64]) -> float:
    """Return the radius of a dot in micrometres, so that neighbours just touch."""
    least = max(float(np.ptp(xy_um, axis=0).max()) * 5e-4, 0.5)
    if len(xy_um) < 2:
        return least
    nearest = cKDTree(xy_um).query(xy_um, k=2)[0][:, 1]
    return max(least, _RADIUS * float(np.median(nearest)))


def _around(xy_um: NDArray[np.float64]) -> list[float]:
    """Return left, top, right, bottom of cells without an image."""
    margin = _MARGIN * max(float(np.ptp(xy_um, axis=0).max()), 1.0)
    return [*(xy_um.min(axis=0) - margin).tolist(), *(xy_um.max(axis=0) + margin).tolist()]


def _left_out(entry: Mapping[str, Any]) -> list[str]:
    """Say what of a slide does not fit."""
    name, found = entry["name"], []
    if entry["n"] < entry["n_all"]:
        found.append(f"{name}: {entry['n']:,} of {entry['n_all']:,} cells, drawn at random.")
    for layer in entry["layers"]:
        finest = layer["levels"][-1]["um_per_px"] if layer["levels"] else None
        if finest is None:
            found.append(f"{name}: no room for the {layer['name']} image.")
        elif finest > 1.001 * entry["squares"]["um_per_px"]:
            found.append(f"{name}: {layer['name']} down to {finest:.2f} µm a pixel.")
    return found
