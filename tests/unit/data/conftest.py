"""A small result tree in the formats of the stages, and the stages from make_splits to seal_dataset run on it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.files import write_json, write_parquet
from mistline.stages import assign_metacells, fit_metacells, make_splits, seal_dataset
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter

PIXEL_UM = 0.25
SCALES = [
    {"name": "cell", "unit": "cell", "size_px": None},
    {"name": "niche", "unit": "grid", "size_px": 32},
    {"name": "region", "unit": "grid", "size_px": 64},
]
METACELLS = {"n_metacells": 24, "n_components": 8, "levels": [6, 4, 3], "min_cells": 3, "n_restarts": 2}
SPLITS = {"scheme": "spatial", "block_tiles": 1, "val_share": 0.1, "test_share": 0.1}
N_TYPES = 5


def gene_names(n: int, first: int = 0) -> list[str]:
    return [f"ENSG{i:011d}" for i in range(first, first + n)]


@dataclass
class Slide:
    """What one slide is made of; a test changes what it wants wrong."""

    name: str
    donor: str
    tissue: str = "breast"
    n: int = 240
    height: int = 7
    width: int = 8
    genes: list[str] = field(default_factory=lambda: gene_names(30))
    labels: bool = True
    seed: int = 0


def write_slide(root: Path, slide: Slide) -> None:
    """Write what check_bundle, project_image, read_cells, cut_crops and cut_tiles leave."""
    rng = np.random.default_rng([slide.seed, len(slide.name), *slide.name.encode()])
    folder = root / "slides" / slide.name
    yx_px = rng.uniform(0, [slide.height * 64, slide.width * 64], (slide.n, 2))
    yx_px = yx_px[np.lexsort((yx_px[:, 1], yx_px[:, 0]))]
    kind = rng.integers(0, N_TYPES, slide.n)
    rate = 0.3 + 6 * (np.arange(len(slide.genes)) % N_TYPES == np.arange(N_TYPES)[:, None])
    counts = rng.poisson(rate[kind]).astype(np.int32)
    counts[:, 0] += counts.sum(axis=1) == 0
    cells = pd.DataFrame(
        {
            "cell_id": [f"{slide.name[-1]}{'abcdefgh'[i % 8]}{i:06d}-1" for i in range(slide.n)],
            "x_um": yx_px[:, 1] * PIXEL_UM,
            "y_um": yx_px[:, 0] * PIXEL_UM,
            "n_counts": counts.sum(axis=1).astype(np.int64),
            "n_genes": (counts > 0).sum(axis=1).astype(np.int64),
        }
    )
    if slide.labels:
        cells["label_type"] = [f"type {i}" for i in kind]
        cells["label_size"] = rng.uniform(0, 1, slide.n)
        cells.loc[3, "label_type"] = None
    write_parquet(folder / "cells.parquet", cells)
    write_json(folder / "bundle.json", {"slide": slide.name, "pixel_size_um": PIXEL_UM})
    write_json(folder / "image.json", {"slide": slide.name, "channels": ["DAPI"], "pixel_size_um": PIXEL_UM})
    excluded = {"no_polygon": 2, "below_min_counts": 1}
    write_json(
        folder / "cells.json", {"slide": slide.name, "n_read": slide.n + 3, "n_kept": slide.n, "excluded": excluded}
    )
    write_counts(folder / "counts.h5ad", cells["cell_id"], slide.genes, counts)
    _write_scales(folder, slide, cells, counts, rng)


def write_counts(path: Path, ids: pd.Series, genes: list[str], counts: np.ndarray) -> None:
    symbols = [f"GENE{int(name[4:]) if name.startswith('ENSG') else name}" for name in genes]
    anndata.AnnData(
        X=sparse.csr_matrix(counts),
        obs=pd.DataFrame(index=pd.Index(ids, name="cell_id")),
        var=pd.DataFrame({"symbol": symbols}, index=pd.Index(genes, name="gene_id")),
    ).write_h5ad(path, compression="gzip")


def _write_scales(
    folder: Path, slide: Slide, cells: pd.DataFrame, counts: np.ndarray, rng: np.random.Generator
) -> None:
    yx_px = cells[["y_um", "x_um"]].to_numpy() / PIXEL_UM
    index = pd.DataFrame({"key": np.arange(slide.n), "slide": slide.name, "donor": slide.donor})
    index[["cell_id", "x_um", "y_um"]] = cells[["cell_id", "x_um", "y_um"]]
    side = rng.integers(8, 20, slide.n)
    index["side_px"], index["side_um"] = side, side * PIXEL_UM
    index[["n_counts", "n_genes"]] = cells[["n_counts", "n_genes"]]
    for scale in SCALES[1:]:
        tile = np.floor(yx_px / scale["size_px"]).astype(int)
        index[f"{scale['name']}_id"] = [f"{row}_{col}" for row, col in tile]
        _write_grid(folder, slide, scale, tile, counts, rng)
    write_parquet(folder / "shards" / "cell.parquet", index)
    write_shards(folder / "shards" / "cell", side, counts, rng)


def _write_grid(folder: Path, slide: Slide, scale: dict, tile: np.ndarray, counts: np.ndarray, rng) -> None:
    tiles, member = np.unique(tile, axis=0, return_inverse=True)
    summed = np.zeros((len(tiles), counts.shape[1]), dtype=np.int32)
    np.add.at(summed, member.ravel(), counts)
    name, size = scale["name"], scale["size_px"]
    table = pd.DataFrame({"key": np.arange(len(tiles)), "slide": slide.name, "donor": slide.donor})
    table[f"{name}_id"] = [f"{row}_{col}" for row, col in tiles]
    table["row"], table["col"] = tiles.T
    table["x_um"], table["y_um"] = ((tiles + 0.5) * size * PIXEL_UM).T[::-1]
    table["side_px"] = size
    table["n_cells"] = np.bincount(member.ravel())
    table["n_counts"], table["n_genes"] = summed.sum(axis=1), (summed > 0).sum(axis=1)
    if name == "niche":
        table["region_id"] = [f"{row}_{col}" for row, col in tiles // 2]
    write_parquet(folder / "shards" / f"{name}.parquet", table)
    write_shards(folder / "shards" / name, np.full(len(tiles), size), summed, rng)


def write_shards(folder: Path, side: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> None:
    """Several files a folder; the first pixel of a record is its key modulo 251."""
    with ShardWriter(folder, 10_000, 0.0002) as writer:
        for key, (size, row) in enumerate(zip(side, counts, strict=True)):
            image = rng.integers(0, 255, (1, size, size)).astype(np.uint8)
            image[0, 0, 0] = key % 251
            present = np.flatnonzero(row)
            writer.put(encode(image, present.astype(np.uint16), row[present], key))


def options(root: Path, slides: list[Slide], *names: str) -> dict[str, list]:
    """Return the repeated options of a cohort stage."""
    folders = [root / "slides" / slide.name for slide in slides]
    known = {
        "slide": [slide.name for slide in slides],
        "donor": [slide.donor for slide in slides],
        "tissue": [slide.tissue for slide in slides],
        "cells": [folder / "cells.parquet" for folder in folders],
        "counts": [folder / "counts.h5ad" for folder in folders],
        "bundle_report": [folder / "bundle.json" for folder in folders],
        "splits": [root / "dataset" / "splits" / f"{slide.name}.parquet" for slide in slides],
    }
    return {name: known[name] for name in names}


def run_splits(root: Path, slides: list[Slide], settings: dict | None = None, seed: int = 0) -> dict:
    summary = root / "dataset" / "splits.json"
    make_splits.run(
        **options(root, slides, "slide", "donor", "tissue", "cells", "bundle_report", "splits"),
        summary=summary,
        scales=json.dumps(SCALES),
        params=json.dumps(settings or SPLITS),
        seed=seed,
    )
    return json.loads(summary.read_text())


def run_fit(root: Path, slides: list[Slide], settings: dict | None = None, threads: int = 1) -> dict:
    quality = root / "dataset" / "metacells.json"
    fit_metacells.run(
        **options(root, slides, "slide", "counts", "cells", "splits"),
        metacells=root / "dataset" / "metacells.h5ad",
        quality=quality,
        params=json.dumps(settings or METACELLS),
        seed=0,
        threads=threads,
    )
    return json.loads(quality.read_text())


def run_assign(root: Path, slide: Slide, threads: int = 1) -> pd.DataFrame:
    folder = root / "slides" / slide.name
    assign_metacells.run(
        metacells=root / "dataset" / "metacells.h5ad",
        counts=folder / "counts.h5ad",
        cells=folder / "cells.parquet",
        assignment=folder / "metacells.parquet",
        threads=threads,
    )
    return pd.read_parquet(folder / "metacells.parquet")


def run_seal(root: Path, slides: list[Slide]) -> dict:
    entries = [{"slide": s.name, "donor": s.donor, "tissue": s.tissue, "disease": "none"} for s in slides]
    manifest = root / "dataset" / "manifest.json"
    seal_dataset.run(
        root=root,
        slides_json=json.dumps(entries),
        manifest=manifest,
        genes=root / "dataset" / "genes.parquet",
        card=root / "dataset" / "card.md",
        scales=json.dumps(SCALES),
        params=json.dumps({"seed": 0, "splits": SPLITS, "metacells": METACELLS}),
    )
    return json.loads(manifest.read_text())


SLIDES = [
    Slide("s1", "d1"),
    Slide("s2", "d2", tissue="lung", genes=gene_names(28, 2), labels=False),
]


def build(root: Path, slides: list[Slide] | None = None) -> Path:
    """Make a sealed dataset; returns the result folder."""
    slides = slides or SLIDES
    for slide in slides:
        write_slide(root, slide)
    run_splits(root, slides)
    run_fit(root, slides)
    for slide in slides:
        run_assign(root, slide)
    run_seal(root, slides)
    return root


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed dataset that tests only read."""
    return build(tmp_path_factory.mktemp("sealed") / "results")


@pytest.fixture
def own(sealed: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sealed, tmp_path / "results"))
