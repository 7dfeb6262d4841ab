"""The published way from a bundle to crops, in words of our own: what the gates are measured against.

    python -m tests.benchmarks.published --bundle DIR --out DIR --cache DIR [--max-cells N]

The whole stack is read into one array and its maximum over z taken; float64 minimum-maximum scaling to 8 bit; per row
of the table a square around the centroid that holds the boundary, cut, padded and resized to 256 px by scikit-image;
raw bytes under `{dataset}/{cell_id}`, the slide in one LMDB transaction. The scaled image is kept in the cache, so
that a second run measures the cropping alone.

With `--peer DIR` a checkout of the published repository is measured instead: the one script in it whose name says it
crops cells and whose text has the options `--output-lmdb`, `--cache`, `--dataset-name` and `--max-cells` and reads
`morphology.ome.tif`. It looks for `dataset/download/<name>/` below the working folder, and for the columns x_min,
x_max, y_min and y_max, without which it takes a fixed window of 64 px for every cell: both are prepared for it,
unmeasured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lmdb
import numpy as np
import pandas as pd
import tifffile

from tests.benchmarks.bench import Bench, Usage, child

try:
    from skimage.transform import resize
except ImportError as error:
    raise ImportError("the reference resizes with scikit-image: install the extra `dev`") from error

NAME = "bench"
PIXEL_UM = 0.2125
SIDE_PX = 256
_SIDES = ("x_min", "x_max", "y_min", "y_max")
_WORDS = ("--output-lmdb", "--cache", "--dataset-name", "--max-cells", "morphology.ome.tif")


def measure_reference(bench: Bench, out: Path, cache: Path, max_cells: int | None = None) -> Usage:
    """Run the published way as a process of its own; the crops go to `out`, the scaled image to `cache`.

    Args:
        bench: the slide, and the checkout that is measured where one is given.
        out: folder of the LMDB file.
        cache: folder of the scaled image, which is taken from there where it is.
        max_cells: crop so many cells, drawn at random.
    """
    words = [] if max_cells is None else ["--max-cells", str(max_cells)]
    if bench.peer is None:
        options = ["--bundle", bench.slide, "--out", out, "--cache", cache]
        return child([sys.executable, "-m", "tests.benchmarks.published", *options, *words])
    folder = bench.work / "peer"
    if not folder.is_dir():
        _prepare_for_peer(bench.slide, folder / "dataset" / "download" / NAME)
    options = ["--output-lmdb", out, "--cache", cache, "--dataset-name", NAME, "--no-save-examples"]
    return child(["env", "-C", folder, sys.executable, crop_script(bench.peer), *options, *words])


def scaled_image(cache: Path) -> Path:
    """Return where the scaled image lies in the cache."""
    return cache / f"{NAME}_resample_norm.npy"


def crop_script(peer: Path) -> Path:
    """Find the script that crops the cells of a bundle in a checkout of the published repository.

    Raises:
        FileNotFoundError: none, or several, look like it.
    """
    named = [path for path in peer.rglob("*.py") if "crop" in path.name and "cell" in path.name]
    found = [path for path in named if all(word in path.read_text("utf-8", "replace") for word in _WORDS)]
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(f"{peer}: one script that crops cells, with {', '.join(_WORDS)}, is wanted; {listed}")
    return found[0].resolve()


def read_cells(bundle: Path) -> pd.DataFrame:
    """Read the table of cells, with the sides of each boundary's box in micrometres."""
    corners = pd.read_parquet(bundle / "cell_boundaries.parquet").groupby("cell_id")[["vertex_x", "vertex_y"]]
    low, high = corners.min(), corners.max()
    sides = pd.concat([low["vertex_x"], high["vertex_x"], low["vertex_y"], high["vertex_y"]], axis=1, keys=_SIDES)
    return pd.read_parquet(bundle / "cells.parquet").join(sides, on="cell_id")


def project(bundle: Path) -> np.ndarray:
    """Return the maximum over z in 8 bit, both over the whole array at once."""
    with tifffile.TiffFile(bundle / "morphology.ome.tif") as file:
        image = file.series[0].levels[0].asarray().max(axis=0)
    return ((image - image.min()) / (image.max() - image.min()) * 255).astype(np.uint8)


def crop(image: np.ndarray, cell: pd.Series) -> np.ndarray:
    """Cut the square around the centroid that holds the boundary, zeros beyond the image; resize it to 256 px."""
    row, column = int(cell["y_centroid"] / PIXEL_UM), int(cell["x_centroid"] / PIXEL_UM)
    rows = (int(cell["y_min"] / PIXEL_UM), int(cell["y_max"] / PIXEL_UM))
    columns = (int(cell["x_min"] / PIXEL_UM), int(cell["x_max"] / PIXEL_UM))
    half = max(4, *(abs(side - row) for side in rows), *(abs(side - column) for side in columns))
    top, left = max(0, row - half), max(0, column - half)
    inside = image[top : row + half, left : column + half]
    square = np.zeros((2 * half, 2 * half), dtype=np.uint8)
    y, x = top - (row - half), left - (column - half)
    square[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return resize(square, (SIDE_PX, SIDE_PX), preserve_range=True, anti_aliasing=True).astype(np.uint8)


def main() -> None:
    """Go the whole way; the image comes from the cache where it is there."""
    parser = argparse.ArgumentParser(description="The published way from a bundle to crops.")
    for name in ("bundle", "out", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--max-cells", type=int)
    wanted = parser.parse_args()
    cached = scaled_image(wanted.cache)
    if cached.is_file():
        image = np.load(cached)
    else:
        image = project(wanted.bundle)
        np.save(cached, image)
    cells = read_cells(wanted.bundle)
    if wanted.max_cells:
        cells = cells.sample(min(wanted.max_cells, len(cells)), random_state=42)
    environment = lmdb.open(str(wanted.out / f"{NAME}.lmdb"), map_size=2**40, subdir=False)
    with environment, environment.begin(write=True) as transaction:
        for _, cell in cells.iterrows():
            transaction.put(f"{NAME}/{cell['cell_id']}".encode(), crop(image, cell).tobytes())


def _prepare_for_peer(bundle: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "morphology.ome.tif").symlink_to(bundle / "morphology.ome.tif")
    read_cells(bundle).to_parquet(folder / "cells.parquet")


if __name__ == "__main__":
    main()
