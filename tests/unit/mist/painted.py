"""A slide on which every cell carries a mark of its own: an exchange of cells, or of x and y, shows at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from mistline.mist.pyramid import Description, LevelWriter, create

SHAPE = (1500, 2600)
PIXEL_UM = 0.2125
GENES = 40


@dataclass
class Painted:
    folder: Path
    pixels: np.ndarray  # uint8 [2, Y, X]
    cells: pd.DataFrame
    counts: np.ndarray  # [n, G]

    @property
    def image(self) -> Path:
        return self.folder / "image.ome.zarr"

    @property
    def counts_file(self) -> Path:
        return self.folder / "counts.h5ad"


def mark(number: int) -> tuple[int, int]:
    """Grey value of a cell in each of the two channels."""
    return 1 + number % 251, 1 + number // 251


def paint(folder: Path, n: int = 600, seed: int = 0) -> Painted:
    """Write image, cells and counts; some cells reach over each border."""
    rng = np.random.default_rng(seed)
    yx = np.stack(np.meshgrid(np.arange(8, 1500, 48), np.arange(8, 2600, 48), indexing="ij"), -1).reshape(-1, 2)
    yx = yx[np.sort(rng.choice(len(yx), n, replace=False))]
    half = rng.uniform(6, 22, (n, 2))
    low, high = yx - half, yx + half
    centre = yx + rng.uniform(-3, 3, (n, 2))
    order = np.lexsort((centre[:, 1], centre[:, 0], centre[:, 1] // 1024, centre[:, 0] // 1024))
    low, high, centre = low[order], high[order], centre[order]
    pixels = np.zeros((2, *SHAPE), np.uint8)
    for number in range(n):
        first, end = np.maximum(np.floor(low[number]), 0).astype(int), np.ceil(high[number]).astype(int)
        for channel, value in enumerate(mark(number)):
            pixels[channel, first[0] : end[0], first[1] : end[1]] = value
    counts = rng.poisson(0.5, (n, GENES)).astype(np.int32)
    counts[:, 0] += 1
    counts[5, 3] = 70_000  # more than 16 bits
    cells = pd.DataFrame(
        {
            "cell_id": [f"c{number:04d}-1" for number in range(n)],
            "x_um": centre[:, 1] * PIXEL_UM, "y_um": centre[:, 0] * PIXEL_UM,
            "x_min_um": low[:, 1] * PIXEL_UM, "x_max_um": high[:, 1] * PIXEL_UM,
            "y_min_um": low[:, 0] * PIXEL_UM, "y_max_um": high[:, 0] * PIXEL_UM,
            "n_counts": counts.sum(axis=1), "n_genes": (counts > 0).sum(axis=1),
        }
    )  # fmt: skip
    slide = Painted(folder, pixels, cells, counts)
    _write(slide)
    return slide


def _write(slide: Painted) -> None:
    slide.folder.mkdir(parents=True, exist_ok=True)
    arrays = create(slide.image, Description("s1", ["DAPI", "18S"], SHAPE, PIXEL_UM))
    for channel in range(2):
        writer = LevelWriter(arrays, channel)
        writer.append(slide.pixels[channel])
        writer.finish()
    slide.cells.to_parquet(slide.folder / "cells.parquet")
    var = pd.DataFrame({"symbol": [f"G{i}" for i in range(GENES)]}, index=[f"ENSG{i:05d}" for i in range(GENES)])
    obs = pd.DataFrame(index=slide.cells["cell_id"].to_numpy())
    anndata.AnnData(sparse.csr_matrix(slide.counts), obs=obs, var=var).write_h5ad(slide.counts_file)
