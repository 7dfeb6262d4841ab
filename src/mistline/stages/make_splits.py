"""Divide the cohort into training, validation and test; write one file a slide and the leakage check."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section, validate
from mistline.config.scales import Scale
from mistline.config.splits import Splits
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_json, read_parquet, write_json, write_parquet
from mistline.core.geometry import tile_of, um_to_px
from mistline.core.hashing import hash_file
from mistline.core.provenance import record
from mistline.mist import splits as library
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.splits")


def run(
    slide: Annotated[list[str], typer.Option(help="name of a slide; repeat, in one order with the files")],
    donor: Annotated[list[str], typer.Option(help="whose tissue it is; one a slide")],
    tissue: Annotated[list[str], typer.Option(help="its organ; one a slide")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet; one a slide")],
    bundle_report: Annotated[list[Path], typer.Option(help="bundle.json; one a slide")],
    splits: Annotated[list[Path], typer.Option(help="the split file to write; one a slide")],
    summary: Annotated[Path, typer.Option(help="splits.json to write")],
    scales: Annotated[str, typer.Option(help="the scales section, as JSON")],
    params: Annotated[str, typer.Option(help="the splits section, as JSON")],
    seed: Annotated[int, typer.Option(help="the run's seed")] = 0,
) -> None:
    """Divide the cohort; nothing is written before the division has passed its leakage check."""
    settings = load_section(Splits, params, "splits")
    grids = _grid_sizes(scales)
    _check_lengths(slide, donor, tissue, cells, bundle_report, splits)
    library.check_donors(donor)
    reports = [read_json(path) for path in bundle_report]
    scheme = library.choose_scheme(settings, donor, all(report.get("has_coordinates", True) for report in reports))
    tissues = {name: [t for d, t in zip(donor, tissue, strict=True) if d == name] for name in donor}
    sides = library.split_donors(tissues, settings, seed) if scheme == "donor" else None
    areas: list[library.Area] = []
    described: dict[str, Any] = {}
    for name, whose, table, report in zip(slide, donor, cells, reports, strict=True):
        xy_um = _read_xy_um(table)
        ground = _ground(report, xy_um, settings, grids)
        if sides:
            area = library.Area(np.full(len(xy_um), library.SPLITS.index(sides[whose]), dtype=np.int8))
        elif scheme == "random":
            area = library.split_random(len(xy_um), settings, seed, name)
        else:
            area = _split_area(xy_um, ground, settings, seed, name)
        areas.append(area)
        leakage = _leakage(xy_um, area.codes, ground)
        described[name] = {"donor": whose, "counts": _counts(area.codes), "undivided": area.reason, "leakage": leakage}
        if area.reason:
            logger.warning("%s is wholly training: %s", name, area.reason)
    on_sides = library.sides_of_donors(donor, [area.codes for area in areas])
    _refuse_leaks(described, on_sides, scheme)
    for name, area, table, target in zip(slide, areas, cells, splits, strict=True):
        _write(target, table, area.codes)
        described[name]["sha256"] = hash_file(target)
    result = {
        "scheme": scheme,
        "seed": seed,
        "asked": {"val": settings.val_share, "test": settings.test_share},
        "donors": sides or {name: "+".join(on) for name, on in on_sides.items()},
        "slides": described,
        "counts": {name: sum(item["counts"][name] for item in described.values()) for name in library.SPLITS},
        "leakage": _worst(described, on_sides),
    }
    write_json(summary, result)
    inputs = {f"cells[{name}]": path for name, path in zip(slide, cells, strict=True)}
    inputs |= {f"bundle[{name}]": path for name, path in zip(slide, bundle_report, strict=True)}
    chosen = settings.model_dump(mode="json") | {"scales": grids}
    code = code_digest("make_splits")
    record("make_splits", outputs=[*splits, summary], inputs=inputs, params=chosen, code=code, seed=seed)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a slide is divided on.

    Attributes:
        pixel_size_um: micrometres a pixel; of a table, the side of its tile.
        grids: grid -> side of a tile in pixels; empty where there is nothing to divide by place.
    """

    pixel_size_um: float
    grids: Mapping[str, int]


def _ground(
    report: Mapping[str, Any], xy_um: NDArray[np.float64], settings: Splits, grids: Mapping[str, int]
) -> _Ground:
    if "pixel_size_um" in report:
        return _Ground(float(report["pixel_size_um"]), grids)
    tile_um = (settings.tile_um or library.tile_side_um(xy_um)) if report["has_coordinates"] else 0.0
    return _Ground(tile_um, {"tile": 1} if tile_um else {})


def _split_area(xy_um: NDArray[np.float64], ground: _Ground, settings: Splits, seed: int, slide: str) -> library.Area:
    if not ground.grids:
        return library.Area(np.zeros(len(xy_um), dtype=np.int8), "its cells are too few or all in one place")
    yx_px = um_to_px(xy_um, ground.pixel_size_um)
    return library.split_area(tile_of(yx_px, max(ground.grids.values())), settings, seed, slide)


def _grid_sizes(text: str) -> dict[str, int]:
    """Return grid scale -> tile side in pixels."""
    scales = [validate(Scale, values, "scales") for values in json.loads(text)]
    sizes = {scale.name: scale.size_px for scale in scales if scale.size_px is not None}
    if not sizes:
        raise ConfigError("scales", "no grid scale is configured", "add one with unit: grid and its size_px")
    return sizes


def _check_lengths(slide: list[str], *others: list[Any]) -> None:
    if any(len(other) != len(slide) for other in others):
        raise ConfigError(
            "make-splits",
            f"{len(slide)} slides, but the other options are repeated {[len(other) for other in others]} times",
            "give --donor, --tissue, --cells, --bundle-report and --splits once a slide, in one order",
        )


def _read_xy_um(path: Path) -> NDArray[np.float64]:
    """Return the centres [n, 2] of a slide's cells."""
    return read_parquet(path, ["x_um", "y_um"], "read_cells for this slide").to_numpy(dtype=np.float64)


def _write(target: Path, cells: Path, codes: NDArray[np.int8]) -> None:
    cell_id = read_parquet(cells, ["cell_id"], "read_cells for this slide")["cell_id"].to_numpy()
    write_parquet(target, pd.DataFrame({"cell_id": cell_id, "split": np.array(library.SPLITS)[codes]}))


def _counts(codes: NDArray[np.int8]) -> dict[str, int]:
    return {name: int((codes == code).sum()) for code, name in enumerate(library.SPLITS)}


def _leakage(xy_um: NDArray[np.float64], codes: NDArray[np.int8], ground: _Ground) -> dict[str, Any]:
    """Measure on the finished division what could leak; without coordinates there is nothing to measure."""
    if not ground.grids:
        return {"tiles_shared": {}, "nearest_um": {}, "largest_tile_um": None}
    pairs = {
        "test-train": (library.TEST, library.TRAIN),
        "val-train": (library.VAL, library.TRAIN),
        "test-val": (library.TEST, library.VAL),
    }
    yx_px = um_to_px(xy_um, ground.pixel_size_um)
    shared = {name: library.shared_tiles(tile_of(yx_px, size), codes) for name, size in ground.grids.items()}
    return {
        "tiles_shared": shared,
        "nearest_um": {name: library.nearest_um(xy_um, codes, *pair) for name, pair in pairs.items()},
        "largest_tile_um": max(ground.grids.values()) * ground.pixel_size_um,
    }


def _refuse_leaks(described: dict[str, Any], on_sides: dict[str, list[str]], scheme: str) -> None:
    if scheme == "random":
        return
    if scheme == "donor":
        library.check_sides(on_sides)
    for name, item in described.items():
        found = item["leakage"]
        shared = {scale: n for scale, n in found["tiles_shared"].items() if n}
        near = [f"{pair} {um:.1f} um" for pair, um in found["nearest_um"].items() if um is not None]
        close = [um for um in found["nearest_um"].values() if um is not None and um <= found["largest_tile_um"]]
        if shared or close:
            raise InputError(
                f"splits of {name}",
                f"sides share tiles {shared} or lie too near ({', '.join(near)})",
                "raise splits.block_tiles and run make_splits again",
            )


def _worst(described: dict[str, Any], on_sides: dict[str, list[str]]) -> dict[str, Any]:
    """Sum the leakage check up over the cohort."""
    distances = [um for item in described.values() for um in item["leakage"]["nearest_um"].values() if um is not None]
    return {
        "donors_on_two_sides": [donor for donor, on in on_sides.items() if len(on) > 1],
        "tiles_shared": sum(sum(item["leakage"]["tiles_shared"].values()) for item in described.values()),
        "nearest_um": min(distances, default=None),
    }
