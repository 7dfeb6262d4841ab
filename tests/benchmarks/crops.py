"""Cutting and storing crops, the image given: CPU a cell and peak memory, start-up taken off by a run on one cell.

Ours is the stage, as its rule runs it: what it counts a cell for is reading and decoding the image, cutting, records
with genes, the shard, its index, their hashes. The reference has the image as one array before its first cell. A cell
of ours costs so little that starting Python, which varies by tenths of a second, would hide it: one process runs the
stage on one cell, and on all of them, and counts its own time.

    python -m tests.benchmarks.crops --slide DIR --one DIR --out DIR --figures FILE

writes the CPU seconds of both runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import zarr

from tests.benchmarks.bench import Bench, Gate, Usage, alternate, child, stage
from tests.benchmarks.published import measure_reference

_REFERENCE_CELLS = 1500
_SCALES = (
    '[{"name":"cell","unit":"cell"},{"name":"niche","unit":"grid","size_px":256},'
    '{"name":"region","unit":"grid","size_px":1024}]'
)


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of cropping."""
    slide, out = bench.results / "slides" / "bench", bench.scratch("crops")
    cache = out / "cache"
    for name in ("cache", "reference"):
        (out / name).mkdir()
    measure_reference(bench, out / "reference", cache, 1)  # leaves the scaled image in the cache
    one = repeated(slide, out / "one", first=1)
    n = len(pd.read_parquet(slide / "cells.parquet", columns=["cell_id"]))

    def cut_all() -> float:
        figures = out / "figures.json"
        words = ["--slide", slide, "--one", one, "--out", out / "cell", "--figures", figures]
        child([sys.executable, "-m", "tests.benchmarks.crops", *words])
        alone_s, all_s = json.loads(figures.read_text())
        return (all_s - alone_s) / (n - 1) * 1e6

    def crop_as_published(n: int) -> float:
        folder = bench.scratch("crops-reference")
        return measure_reference(bench, folder, cache, n).cpu_s

    n_reference = min(n, _REFERENCE_CELLS)
    found = alternate(
        {
            "ours": cut_all,
            "reference": lambda: (crop_as_published(n_reference) - crop_as_published(1)) / (n_reference - 1) * 1e6,
        },
        bench.rounds,
    )
    yield Gate("crop + shard, CPU a cell", "us", found["ours"], found["reference"], least=40, note=f"{n} cells")

    slide_mib = zarr.open_array(slide / "image.ome.zarr", path="0", mode="r").nbytes / 2**20
    for cells, times in ((slide, 1), (repeated(slide, out / "four", times=4), 4)):
        note = f"{n * times} cells; the slide takes {slide_mib:.0f} MiB"
        peak = cut_crops(slide, cells, out / "cell").peak_mib
        yield Gate("crop + shard, peak", "MiB", peak, limit=slide_mib + 400, note=note)


def cut_crops(slide: Path, cells: Path, out: Path, threads: int = 1) -> Usage:
    """Run the stage on the image of `slide` and the cells of `cells`, into `out` and an index beside it."""
    return child(stage(*_words(slide, cells, out, threads)))


def _words(slide: Path, cells: Path, out: Path, threads: int = 1) -> tuple[str, ...]:
    image = ["--image", slide / "image.ome.zarr", "--image-summary", slide / "image.json"]
    table = ["--cells", cells / "cells.parquet", "--counts", cells / "counts.h5ad"]
    written = ["--shards", out, "--index", out.with_suffix(".parquet"), "--threads", threads]
    names = ["--slide", "bench", "--donor", "d1", "--params", "{}", "--scales", _SCALES]
    return ("cut-crops", *map(str, [*image, *table, *written, *names]))


def main() -> None:
    """Run the stage on one cell, which loads all it needs, then on one and on all for their CPU seconds."""
    parser = argparse.ArgumentParser(description="CPU seconds of cutting one cell and all cells of a slide.")
    for name in ("slide", "one", "out", "figures"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    wanted = parser.parse_args()
    used = [_cpu_s(wanted.slide, cells, wanted.out) for cells in (wanted.one, wanted.one, wanted.slide)]
    wanted.figures.write_text(json.dumps(used[1:]))


def _cpu_s(slide: Path, cells: Path, out: Path) -> float:
    from mistline.cli import app

    start = time.process_time()
    app(_words(slide, cells, out), standalone_mode=False)
    return time.process_time() - start


def repeated(slide: Path, folder: Path, first: int | None = None, times: int = 1) -> Path:
    """Write the tables of a slide's first cells, each so many times under new names, in the order of the slide."""
    table = pd.read_parquet(slide / "cells.parquet")[:first]
    rows = np.repeat(np.arange(len(table)), times)
    table = table.iloc[rows].reset_index(drop=True)
    if times > 1:
        table["cell_id"] = [f"{name}-{number}" for number, name in enumerate(table["cell_id"])]
    counts = anndata.read_h5ad(slide / "counts.h5ad")
    obs = pd.DataFrame(index=table["cell_id"].to_numpy(dtype=str))
    counts = anndata.AnnData(counts.X[rows], obs, counts.var)
    folder.mkdir()
    table.to_parquet(folder / "cells.parquet")
    counts.write_h5ad(folder / "counts.h5ad")
    return folder


if __name__ == "__main__":
    main()
