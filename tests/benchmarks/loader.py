"""Reading cells for training: samples a second beside the published loader, and genes beside a backed h5ad.

All stores are in the page cache, both loaders have two worker processes and batches of 256. The clock runs from one
batch to another in the middle of an epoch: starting workers and draining them is in neither figure.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import anndata
import numpy as np

from mistline.data import MistDataset, open_dataset
from mistline.data.loader import Loader
from mistline.data.order import Order, Plan
from tests.benchmarks import published_loader
from tests.benchmarks.bench import Bench, Gate, alternate

_BATCH = 256
_WORKERS = 2
_IDLE = 8  # batches before the clock starts, and at least after it stops: the read-ahead of the workers
_MOST_RAW = 8192  # records of the reference's store, which takes 70 KB for each


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of the loader."""
    folder = bench.scratch("loader")
    raw = _raw_store(bench.results, folder / "raw.lmdb")
    cpu: dict[str, float] = {}
    for name, size, least in (("resized to 224", 224, 8.0), ("ragged, at native size", "native", 20.0)):
        ours = open_dataset(bench.results, image_size=size, genes=None)
        rates = alternate(
            {
                "ours": lambda ours=ours: _rate(_epochs(ours), 96, "ours", cpu),
                "reference": lambda: _rate(published_loader.loader(raw, _BATCH, _WORKERS), 12, "reference", cpu),
            },
            bench.rounds,
        )
        note = f"CPU of all processes {cpu['ours']:.0f} and {cpu['reference']:.0f} us a cell"
        title = f"loader, {_WORKERS} workers, shuffled, {name}"
        yield Gate(title, "cells/s", rates["ours"], rates["reference"], least, better="more", note=note)
    yield _genes(bench, folder)


def _genes(bench: Bench, folder: Path) -> Gate:
    dataset = open_dataset(bench.results, image_size=None, genes="dense")
    path = folder / "counts.h5ad"
    # Uncompressed, which is the fastest form of it.
    anndata.read_h5ad(next(bench.results.glob("slides/*/counts.h5ad"))).write_h5ad(path)
    rates = alternate(
        {
            "ours": lambda: _pass(batch.genes for batch in dataset.loader(_BATCH, shuffle=True)),
            "reference": lambda: _pass(published_loader.gene_batches(path, _BATCH, 0)),
        },
        bench.rounds,
    )
    return Gate(
        "dense genes, random batches, one process",
        "cells/CPU s",
        rates["ours"],
        rates["reference"],
        5.0,
        better="more",
        note="reference: backed h5ad",
    )


def _raw_store(results: Path, path: Path) -> published_loader.RawCells:
    dataset = open_dataset(results, genes=None)
    n = min(len(dataset), _MOST_RAW)
    wanted = np.sort(np.random.default_rng(0).choice(len(dataset), n, replace=False))
    ids: list[str] = []

    def images() -> Iterator:
        for first in range(0, n, _BATCH):
            batch = dataset.__getitems__(wanted[first : first + _BATCH].tolist())
            ids.extend(batch.record_id)
            yield from zip(batch.record_id, (image.numpy() for image in batch.image), strict=True)

    published_loader.write_records(path, "bench", images(), n)
    return published_loader.RawCells(path, "bench", ids)


def _epochs(dataset: MistDataset) -> Loader:
    """Return our loader over as many epochs as the clock needs, as one: it has to run on, as the reference does."""
    n = len(dataset) // _BATCH * _BATCH
    repeats = -(-160 * _BATCH // n)
    order = Order([n], Plan(_BATCH, shuffle=True))
    return Loader(dataset, _Again(order, repeats), _WORKERS)


class _Again:
    """An order given several times, of another epoch each time."""

    def __init__(self, order: Order, times: int) -> None:
        self._order, self._times = order, times

    def __len__(self) -> int:
        return len(self._order) * self._times

    def __iter__(self) -> Iterator[list[int]]:
        for epoch in range(self._times):
            self._order.epoch = epoch
            yield from self._order


def _rate(loader: Iterable, n_batches: int, name: str, cpu: dict[str, float]) -> float:
    """Return samples a second, from one batch to the `n_batches`-th after it; both in the middle of the epoch."""
    batches = iter(loader)
    for _ in range(_IDLE):
        next(batches)
    n, start, used = 0, time.perf_counter(), _cpu_s()
    for _ in range(n_batches):
        batch = next(batches)
        n += len(batch) if hasattr(batch, "names") else len(batch["image"])
    seconds = time.perf_counter() - start
    cpu[name] = (_cpu_s() - used) / n * 1e6
    del batches
    return n / seconds


def _pass(batches: Iterable) -> float:
    """Return samples a CPU second: of one process that waits for nothing, whatever else the machine does."""
    n, start = 0, time.process_time()
    for genes in batches:
        n += len(genes)
    return n / (time.process_time() - start)


def _cpu_s() -> float:
    """Return CPU seconds of this process and of its workers so far."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
