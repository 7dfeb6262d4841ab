"""Writing the published form, 256 x 256 raw bytes a cell: CPU a cell, start-up taken off by a run on one cell.

Ours is the command on the sealed dataset: reading and decoding records, resizing, LMDB, the hash of the file for its
sidecar. The reference has the image as one array before its first cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mistline.store.manifest import read_manifest, write_manifest
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter
from tests.benchmarks.bench import Bench, Gate, alternate, child, stage
from tests.benchmarks.published import measure_reference

_REFERENCE_CELLS = 1500


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gate of the export."""
    out = bench.scratch("export")
    dataset, one, cache = bench.results, _one_cell(bench.results, out / "one"), out / "cache"
    for name in ("cache", "reference"):
        (out / name).mkdir()
    measure_reference(bench, out / "reference", cache, 1)  # leaves the scaled image in the cache
    n = read_manifest(dataset).slides["bench"]["scales"]["cell"]["records"]
    n_reference = min(n, _REFERENCE_CELLS)
    peaks: list[float] = []
    sizes: list[int] = []

    def export(manifest: Path) -> float:
        used = child(stage("export-lmdb", "--dataset", manifest, "--out", out / "all.lmdb"))
        peaks.append(used.peak_mib)
        sizes.append((out / "all.lmdb").stat().st_size)
        return used.cpu_s

    def crop_as_published(cells: int) -> float:
        return measure_reference(bench, bench.scratch("export-reference"), cache, cells).cpu_s

    found = alternate(
        {
            "ours": lambda: (export(dataset) - export(one)) / (n - 1) * 1e6,
            "reference": lambda: (crop_as_published(n_reference) - crop_as_published(1)) / (n_reference - 1) * 1e6,
        },
        bench.rounds,
    )
    note = f"{n} cells, {max(sizes) / 1e6:.0f} MB; at most {max(peaks):.0f} MiB in memory"
    (out / "all.lmdb").unlink()
    yield Gate("export-lmdb, CPU a cell", "us", found["ours"], found["reference"], least=6, note=note)


def _one_cell(results: Path, folder: Path) -> Path:
    """Write a dataset that holds the first cell of another, as far as the export reads it."""
    manifest = read_manifest(results)
    entry = dict(manifest.slides["bench"])
    cell = entry["scales"]["cell"]
    folder.mkdir()
    with ShardWriter(folder / "cell", 100_000, 0.001) as writer:
        writer.put(ShardReader(manifest.locate(cell["shards"]["path"])).raw(0))
    pd.read_parquet(manifest.locate(cell["index"]["path"]))[:1].to_parquet(folder / "cell.parquet")
    paths = {"shards": {"path": "cell"}, "index": {"path": "cell.parquet"}, "records": 1}
    slides = [entry | {"scales": {**entry["scales"], "cell": cell | paths}}]
    write_manifest(folder / "manifest.json", {**manifest.content, "slides": slides})
    return folder / "manifest.json"
