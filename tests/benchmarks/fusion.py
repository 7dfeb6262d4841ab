"""Fusion: an epoch against networks written the published way, and memory by the slide's size.

The slide has the size of one Visium slice: 4,634 cells on a hexagonal array, 500 genes, and the nearest 6 joined.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse

from mistline.models.contract import Context
from mistline.models.fusion.model import Model, gather
from mistline.models.fusion.network import Network
from mistline.models.fusion.objectives import Labels
from mistline.models.fusion.params import Params
from mistline.models.fusion.training import Part
from mistline.models.fusion.training import train as train_ours
from mistline.models.predictor import Problem, SlideCells
from tests.benchmarks.bench import Bench, Gate, alternate, child
from tests.benchmarks.published_fusion import Published
from tests.benchmarks.published_fusion import train as train_published

_CELLS, _GENES, _CLASSES = 4634, 500, 7
_EPOCHS = 4
_SIZES = (10_000, 50_000, 100_000)
_NEAREST = {"kind": "nearest", "k": [6]}


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    try:
        for preset, least in (("cross_attention", 3.0), ("gat_only", 1.0)):
            found = alternate(_ways(preset), bench.rounds)
            yield Gate(
                f"CPU of an epoch, {preset}", "s", found["ours"], found["published"], least, note=f"{_GENES} genes"
            )
    finally:
        torch.set_num_threads(before)
    # Memory that was used and freed is not held by the slide: glibc is told to give back what is larger than 4 MiB.
    command = ["env", "MALLOC_MMAP_THRESHOLD_=4194304", sys.executable, "-m", "tests.benchmarks.fusion"]
    peaks = [child([*command, str(n)]).peak_mib for n in _SIZES]
    growth = (peaks[-1] - peaks[0]) / (_SIZES[-1] - _SIZES[0]) * 1e5
    shown = ", ".join(f"{n:,} cells {peak:.0f}" for n, peak in zip(_SIZES, peaks, strict=True))
    given = _given_mib(100_000)
    note = f"peak in MiB: {shown}; the counts themselves {given:.0f}"
    yield Gate("memory by neighbour sampling, for 100,000 cells more", "MiB", growth, limit=3 * given, note=note)


def problem(n_cells: int, n_genes: int = _GENES, seed: int = 0) -> Problem:
    """Return one slide of random counts, a fifth of them not zero, on a hexagonal array, with layers as classes."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_cells)))
    row, column = np.divmod(np.arange(n_cells), side)
    xy = np.column_stack([column + row % 2 / 2, row * np.sqrt(3) / 2]) * 10.0
    label = np.minimum(row * _CLASSES // side, _CLASSES - 1)
    per_cell = n_genes // 5
    index = np.sort(rng.integers(0, n_genes, (n_cells, per_cell), dtype=np.int32), axis=1)
    data = rng.integers(1, 5, n_cells * per_cell, dtype=np.int32)
    counts = sparse.csr_matrix((data, index.ravel(), np.arange(n_cells + 1) * per_cell), (n_cells, n_genes))
    counts.sum_duplicates()
    part = rng.choice(np.array(["train", "val", "test"], dtype=object), n_cells, p=[0.6, 0.2, 0.2])
    ids = np.arange(n_cells).astype(str).tolist()
    slide = SlideCells("s", "d", ids, counts, xy, None, np.where(part == "test", -1, label), part)
    genes = tuple(f"G{number:05d}" for number in range(n_genes))
    return Problem([slide], genes, "counts", tuple(f"L{number}" for number in range(_CLASSES)))


def _ways(preset: str) -> dict[str, object]:
    """Return both ways of a few epochs, prepared: same cells, same graph, same numbers."""
    given = problem(_CELLS)
    params = Params(preset=preset, epochs=_EPOCHS, neighbours=_NEAREST)
    cells, sizes = gather(params, given)
    slide = given.slides[0]
    rows = [np.flatnonzero(slide.part == part) for part in ("train", "val")]
    plain_cells, _ = gather(Params(preset="gat_only", neighbours=_NEAREST), given)  # rows as they are
    plain = plain_cells.whole("cpu")
    edges = plain.graph.layers[0].index
    edges = edges[:, edges[0] != edges[1]]
    label = torch.from_numpy(slide.label)
    cells.whole("cpu")

    def ours() -> float:
        torch.manual_seed(0)
        network = Network(params, sizes)
        objective = Labels(slide.label, np.ones(_CLASSES), "macro_f1", "cpu")
        start = time.process_time()
        train_ours(network, (Part(cells, rows[0]), Part(cells, rows[1])), objective, params, _context())
        return (time.process_time() - start) / _EPOCHS

    def published() -> float:
        torch.manual_seed(0)
        model = Published(preset, plain.genes.shape[1], _CLASSES)
        start = time.process_time()
        parts = (torch.from_numpy(rows[0]), torch.from_numpy(rows[1]))
        train_published(model, plain.genes, edges, label, parts, _EPOCHS)
        return (time.process_time() - start) / _EPOCHS

    return {"ours": ours, "published": published}


def _context() -> Context:
    return Context(0, "cpu", 1, None)


def _given_mib(n_cells: int) -> float:
    return n_cells * (_GENES // 5) * 8 / 2**20


def _sampled(n_cells: int) -> None:
    """Take one epoch of sampled batches, and predict: for a process of its own."""
    torch.set_num_threads(1)
    given = problem(n_cells)
    params = Params(preset="cross_attention", epochs=1, full_batch_below=1, neighbours=_NEAREST)
    model = Model.create(params, given, _context())
    list(model.fit(given, _context()))
    next(iter(model.predict(given, _context())))


if __name__ == "__main__":
    _sampled(int(sys.argv[1]))
