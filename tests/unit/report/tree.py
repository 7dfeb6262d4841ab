"""A small result tree in the formats of the line, written without running it; names hold what HTML must escape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from mistline.core.files import write_json, write_parquet
from mistline.core.hdf5 import write_h5ad
from mistline.core.provenance import record
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.store.codec import encode
from mistline.store.manifest import write_manifest
from mistline.store.shard import ShardWriter

PIXEL_UM = 0.2125
SHAPE = (220, 300)
N_CELLS = 40
HOSTILE = "<script>alert(\"x\")</script> & 'co'"
SCALES = [
    {"name": "cell", "unit": "cell"},
    {"name": "niche", "unit": "grid", "size_px": 64},
    {"name": "region", "unit": "grid", "size_px": 128},
]


@dataclass(frozen=True)
class Tree:
    """Where the tree lies and what its options are."""

    root: Path
    version: str
    entries: list[dict[str, str]]

    @property
    def scores(self) -> list[Path]:
        return sorted((self.root / "evaluation").rglob("*.seed-*.json"))

    def options(self, out: Path) -> dict[str, Any]:
        """Arguments of the report stage."""
        return {
            "root": self.root,
            "manifest": self.root / "dataset" / "manifest.json",
            "splits_summary": self.root / "dataset" / "splits.json",
            "metacells_quality": self.root / "dataset" / "metacells.json",
            "slides_json": json.dumps(self.entries),
            "page": out / "index.html",
            "tables": out / "tables",
            "figures": out / "figures",
            "scales": json.dumps(SCALES),
            "scores": self.scores,
        }

    def all_options(self, out: Path) -> dict[str, Any]:
        """Arguments with everything that was judged: answers, tests, courses and embeddings."""
        courses = sorted(self.root.rglob("*.jsonl"))
        names = ["/".join([path.stem.split(".")[0], "0", *path.parts[-3:-1]]) for path in courses]
        return self.options(out) | {
            "answers": [path.with_suffix(".parquet") for path in self.scores],
            "tests": [self.root / "evaluation/domains/random_spot.json"],
            "courses": courses,
            "course_names": names,
            "embeddings": sorted((self.root / "embeddings").rglob("*.parquet")),
        }


def write_tree(root: Path, *, n_slides: int = 2, with_scores: bool = True) -> Tree:
    """Write slides of one donor each, the dataset's summaries and evaluations of two models."""
    entries = [
        {"slide": "s1", "donor": "d1", "tissue": HOSTILE, "disease": "healthy"},
        {"slide": "s2", "donor": "d2", "tissue": "breast", "disease": "carcinoma"},
    ][:n_slides]
    sides = {"s1": "train", "s2": "test"}
    for number, entry in enumerate(entries):
        write_slide(root, entry, seed=number, side=sides[entry["slide"]])
    write_json(root / "dataset" / "splits.json", splits(entries, sides))
    write_json(root / "dataset" / "metacells.json", quality())
    measured = [["s1", "s2"][:n_slides]] * 9 + [["s2"][: n_slides - 1]] * 3
    genes = pd.DataFrame({"gene_id": [f"g{i}" for i in range(12)], "slides": measured})
    write_parquet(root / "dataset" / "genes.parquet", genes)
    version = write_manifest(root / "dataset" / "manifest.json", {"slides": ["s1", "s2"]})
    tree = Tree(root, version, entries)
    if with_scores:
        for model, value in (("pca", 0.41), (HOSTILE[:20], 0.7)):
            for seed in (0, 1):
                name = f"{len(model)}.seed-{seed}.json"
                write_json(root / "evaluation/clustering/fixed" / name, score(version, model, seed, value + seed / 50))
    return tree


def write_slide(root: Path, entry: dict[str, str], seed: int, side: str) -> None:
    """Write everything of one slide."""
    rng = np.random.default_rng(seed)
    name, folder = entry["slide"], root / "slides" / entry["slide"]
    shape = SHAPE if seed % 2 == 0 else SHAPE[::-1]
    pixels = rng.integers(0, 60, (1, *shape)).astype(np.uint8)
    xy_um = rng.uniform(5, np.array(shape[::-1]) * PIXEL_UM - 5, (N_CELLS, 2))
    for col, row in (xy_um / PIXEL_UM).astype(int):
        pixels[0, row - 6 : row + 6, col - 6 : col + 6] = 220
    _write_image(folder / "image.ome.zarr", name, pixels)
    write_json(folder / "bundle.json", _bundle(entry, shape))
    window = {"DAPI": [100.0, 4000.0]}
    source = {"DAPI": "z-stack"}
    about = {"slide": name, "channels": ["DAPI"], "source": source, "shape_px": shape, "pixel_size_um": PIXEL_UM}
    write_json(folder / "image.json", {**about, "window": window, "window_mode": "percentile", "levels": 1})
    write_json(folder / "cells.json", _cells_summary(name))
    write_parquet(folder / "cells.parquet", _cells(rng, xy_um))
    write_parquet(folder / "metacells.parquet", _metacells(rng))
    write_parquet(root / "dataset/splits" / f"{name}.parquet", pd.DataFrame({"cell_id": _ids(), "split": side}))
    _write_shards(folder, name, pixels, xy_um)
    _write_counts(folder / "counts.h5ad", rng)
    record("read_cells", outputs=[folder / "cells.parquet"], inputs={}, params={"min_counts": 1}, code="c0ffee")


def splits(entries: list[dict[str, str]], sides: dict[str, str]) -> dict[str, Any]:
    """splits.json of a split by donor."""
    slides = {}
    for entry in entries:
        counts = {name: N_CELLS * (name == sides[entry["slide"]]) for name in ("train", "val", "test", "gap")}
        leakage = {"tiles_shared": {"niche": 0}, "nearest_um": {"test-train": None}, "largest_tile_um": 27.2}
        slides[entry["slide"]] = {"donor": entry["donor"], "counts": counts, "undivided": None, "leakage": leakage}
    return {
        "scheme": "donor",
        "seed": 0,
        "asked": {"val": 0.0, "test": 0.5},
        "donors": {entry["donor"]: sides[entry["slide"]] for entry in entries},
        "slides": slides,
        "leakage": {"donors_on_two_sides": [], "tiles_shared": 0, "nearest_um": None},
    }


def quality() -> dict[str, Any]:
    """metacells.json; held-out cells have no labels."""
    histogram = {"edges": [0.0, 0.25, 0.5, 0.75, 1.0], "counts": [1, 4, 6, 1]}
    part = {
        "n_cells": N_CELLS,
        "cells_without_counts": 0,
        "gene_pcc": {"mean": 0.5, "median": 0.52, "n_genes": 12, "n_constant": 0, "histogram": histogram},
        "variance_kept": {"pca": 0.7, "quantised": 0.5, "quantised_in_pca": 0.71},
        "cells_per_metacell": {"min": 4, "median": 8.0, "max": 13},
        "labels": {},
    }
    rare = {"share_below": 0.05, "types": ["B"], "recall": 0.5}
    labels = {"kind": {"n_labelled": N_CELLS, "purity": 0.8, "recall": {"A": 0.9, "B": 0.5}, "rare": rare}}
    return {
        "asked": {"n_metacells": 6},
        "n_metacells": 5,
        "n_dropped": 1,
        "n_components": 4,
        "n_genes": 12,
        "n_cells_fitted": N_CELLS,
        "levels": {"l1": 3, "l2": 2},
        "explained_variance_share": [0.4, 0.2, 0.1, 0.05],
        "train": {**part, "labels": labels},
        "held_out": {**part, "labels": {"kind": None}},
    }


def score(version: str, model: str, seed: int, ari: float) -> dict[str, Any]:
    """Return an evaluation whose control `coordinates` has 0.55 ari and 0.3 log_loss, the better of both kinds."""

    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    return {
        "task": "clustering",
        "protocol": "fixed",
        "model": model,
        "seed": seed,
        "dataset_version": version,
        "unit": "donor",
        "n": N_CELLS,
        "metrics": {"ari": estimate(ari), "log_loss": estimate(0.9)},
        "controls": {
            "coordinates": {"ari": estimate(0.55), "log_loss": estimate(0.3)},
            "shuffled": {"ari": estimate(ari / 100), "log_loss": estimate(2.0)},
        },
        "settings": {"interval": "intervals resample donors"},
    }


def _ids() -> list[str]:
    return [f"aaaa{number:04d}-1" for number in range(N_CELLS)]


def _bundle(entry: dict[str, str], shape: tuple[int, int]) -> dict[str, Any]:
    problem = {"level": "warning", "what": f"odd {HOSTILE}", "remedy": "look at it"}
    return {
        **entry,
        "layout": "2.0",
        "xoa": "xenium-2.0.0.10",
        "pixel_size_um": PIXEL_UM,
        "image": {"shape_px": shape},
        "panel": {"name": "toy", "n_genes": 12, "n_controls": {"Negative Control Probe": 4}, "gene_ids": "ensembl"},
        "problems": [problem] if entry["slide"] == "s1" else [],
    }


def _cells_summary(name: str) -> dict[str, Any]:
    return {
        "slide": name,
        "n_read": N_CELLS + 3,
        "n_kept": N_CELLS,
        "excluded": {"no_polygon": 1, "below_min_counts": 2},
        "control_features": {"Negative Control Probe": 4},
        "control_counts": 17,
        "joins": {"cells_without_polygon": 1, "polygons_without_cell": 0},
        "labels": {},
    }


def _cells(rng: np.random.Generator, xy_um: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_id": _ids(),
            "x_um": xy_um[:, 0],
            "y_um": xy_um[:, 1],
            "n_counts": rng.integers(1, 300, N_CELLS),
            "n_genes": rng.integers(1, 12, N_CELLS),
            "cell_area_um2": rng.uniform(20, 200, N_CELLS),
            "n_nuclei": rng.integers(0, 2, N_CELLS),
            "label_kind": np.resize(np.array(["A", HOSTILE, "</script>", None], dtype=object), N_CELLS),
        }
    )


def _metacells(rng: np.random.Generator) -> pd.DataFrame:
    metacell = np.arange(N_CELLS) % 5
    return pd.DataFrame({"cell_id": _ids(), "metacell": metacell, "l1": metacell % 3, "l2": metacell % 2})


def _write_image(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.parent.mkdir(parents=True)
    writer = LevelWriter(create(folder, Description(name, ["DAPI"], pixels.shape[1:], PIXEL_UM)), 0)
    writer.append(pixels[0])
    writer.finish()


def _write_shards(folder: Path, name: str, pixels: np.ndarray, xy_um: np.ndarray) -> None:
    genes = np.arange(3, dtype=np.uint16)
    padded, ids, lines = np.pad(pixels[0], 20), _ids(), []
    with ShardWriter(folder / "shards/cell", 10**5, 1.0) as writer:
        for number, (col, row) in enumerate((xy_um / PIXEL_UM).astype(int)):
            half = 8 + number % 5
            crop = padded[row + 20 - half : row + 20 + half, col + 20 - half : col + 20 + half]
            key = writer.put(encode(np.ascontiguousarray(crop)[None], genes, genes.astype(np.int64) + 1, number))
            corner = {"row_px": row - half, "col_px": col - half, "side_px": 2 * half}
            lines.append({"key": key, "slide": name, "cell_id": ids[number], **corner, "n_counts": 6})
    write_parquet(folder / "shards/cell.parquet", pd.DataFrame(lines))
    for scale in ("niche", "region"):
        side = 64 if scale == "niche" else 128
        with ShardWriter(folder / "shards" / scale, 10**5, 1.0) as writer:
            writer.put(encode(np.ascontiguousarray(pixels[:, :side, :side]), genes, genes.astype(np.int64), 0))
        table = pd.DataFrame({"key": [0], f"{scale}_id": ["0_0"], "side_px": [side], "n_cells": [1]})
        write_parquet(folder / "shards" / f"{scale}.parquet", table)


def _write_counts(path: Path, rng: np.random.Generator) -> None:
    names = pd.DataFrame({"symbol": [f"{HOSTILE}{i}" for i in range(12)]}, index=[f"g{i:02d}" for i in range(12)])
    counts = rng.poisson(np.arange(12) / 4, (N_CELLS, 12)).astype(np.int32)
    write_h5ad(path, anndata.AnnData(sparse.csr_matrix(counts), pd.DataFrame(index=_ids()), names))
