"""Judging slides of up to 200,000 cells: memory of graphs, folds, controls and intervals, and the bootstrap's cost.

Every process is one of our stages, or stands for one. What is printed is what the last 100,000 cells take, for which
memory that grows with N x N would need 3,576 MiB at a bit a pair, and how much more that is than what the cells
before took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from mistline.graphs.build import delaunay, hexagonal, nearest, radius
from mistline.tasks.domain_metrics import Borders, tally
from tests.benchmarks.bench import Bench, Gate, alternate, child, stage

_SIZES = (50_000, 100_000, 200_000)  # at fewer some stages' imports are their peak, and tell nothing of growth
_CELLS = 100_000  # of the bootstrap
_GENES = 100
_DRAWS = 1000
_PLAIN_DRAWS = 10  # of the plain way, whose draws cost the same each
_TABLE = ["--slide", "s", "--donor", "d"]
# (task, protocol, settings): what is judged
_JUDGED = (
    ("domains", "random_spot", {"label": "layer"}),
    ("domains", "unsupervised", {"label": "layer"}),
    ("clustering", "fixed_resolution", {"label": "layer"}),
)
_SCALES = '[{"name": "cell", "unit": "cell"}, {"name": "niche", "unit": "grid", "size_px": 256}]'
_LIMIT_MIB = 600.0  # for the last 100,000 cells: some 6 KB a cell
_LINEAR = 2.6  # growth of the second doubling over that of the first: 2 where linear, 4 where N x N


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    yield from _memory("four graphs of neighbours", [_graphs_mib(n) for n in _SIZES])
    peaks: dict[str, list[float]] = {}
    for n_cells in _SIZES:
        root = _cohort(bench.scratch(f"tasks-{n_cells}"), n_cells)
        for task, protocol, settings in _JUDGED:
            for name, command in _stages(root, task, protocol, json.dumps(settings)):
                peaks.setdefault(name, []).append(child(command).peak_mib)
    for name, found in peaks.items():
        yield from _memory(name, found)
    found = alternate({"ours": _ours(), "plain": _plain()}, bench.rounds)
    note = f"13 scores, {_DRAWS} draws, {_CELLS:,} cells; plain: cells drawn one by one, ARI and accuracy alone"
    yield Gate("bootstrap of domain scores", "CPU s", found["ours"], found["plain"], 20.0, note=note)


def _memory(name: str, peaks: Sequence[float]) -> Iterator[Gate]:
    """Yield how much the last 100,000 cells take, and whether the growth is linear."""
    first, second = peaks[1] - peaks[0], peaks[2] - peaks[1]
    shown = ", ".join(f"{n:,} cells {peak:.0f}" for n, peak in zip(_SIZES, peaks, strict=True))
    note = f"the last 100,000 cells; peak in MiB: {shown}"
    yield Gate(f"memory, {name}", "MiB", second, limit=_LIMIT_MIB, note=note)
    if min(first, second) > 5:  # less is the noise of the interpreter
        yield Gate(f"growth, {name}", "x", second / first, limit=_LINEAR, note="2 where linear, 4 where N x N")


def _graphs_mib(n_cells: int) -> float:
    return child([sys.executable, "-m", "tests.benchmarks.tasks", str(n_cells)]).peak_mib


def graphs(n_cells: int) -> None:
    """Build every graph of a slide, for a process of its own."""
    array, xy_um = _places(n_cells)
    for build in (
        lambda: hexagonal(array),
        lambda: nearest(xy_um, 6),
        lambda: radius(xy_um, 11.0),
        lambda: delaunay(xy_um),
    ):
        if build().shape != (n_cells, n_cells):
            raise RuntimeError("a graph lost cells")


def _places(n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    row, place = np.divmod(np.arange(n_cells), int(np.ceil(np.sqrt(n_cells))))
    array = np.column_stack([row, 2 * place + row % 2])
    return array, np.column_stack([array[:, 1] * 5.0, array[:, 0] * 5.0 * np.sqrt(3)])


def _cohort(root: Path, n_cells: int) -> Path:
    """Write a slide and run the stages up to the manifest."""
    from tests.benchmarks.fusion import problem  # torch: its import would be the peak of the graphs' process

    slide = problem(n_cells, _GENES).slides[0]
    array, xy_um = _places(n_cells)
    label = np.minimum(array[:, 0] * 7 // (array[:, 0].max() + 1), 6)
    obs = pd.DataFrame({"layer": pd.Categorical([f"L{number}" for number in label])})
    obs[["array_row", "array_col"]] = array
    obs.index = pd.Index(slide.cell_id, dtype=object)
    var = pd.DataFrame(index=pd.Index([f"G{number:03d}" for number in range(_GENES)], dtype=object))
    counts = slide.counts.astype(np.float32)
    anndata.AnnData(counts, obs=obs, var=var, obsm={"spatial": xy_um}).write_h5ad(root / "table.h5ad")
    own, dataset = root / "slides/s", root / "dataset"
    sheet = [{"slide": "s", "donor": "d", "tissue": "t", "disease": "x"}]
    paths = ["--cells", own / "cells.parquet", "--counts", own / "counts.h5ad", "--summary", own / "cells.json"]
    about = [*_TABLE, "--tissue", "t"]
    child(
        [
            *stage("read-table", "--table", root / "table.h5ad", *about, "--disease", "x", "--um-per-unit", "10"),
            *["--report", own / "bundle.json", *paths],
        ]
    )
    child(
        [
            *stage("make-splits", *about, "--cells", own / "cells.parquet", "--bundle-report", own / "bundle.json"),
            *["--splits", dataset / "splits/s.parquet", "--summary", dataset / "splits.json"],
            *["--scales", _SCALES, "--params", "{}"],
        ]
    )
    sealed = ["--manifest", dataset / "manifest.json", "--genes", dataset / "genes.parquet"]
    child(
        [
            *stage("seal-tables", "--root", root, "--slides-json", json.dumps(sheet), *sealed),
            *["--card", dataset / "card.md", "--params", "{}"],
        ]
    )
    return root


def _stages(root: Path, task: str, protocol: str, params: str) -> Iterator[tuple[str, list[str | Path]]]:
    """Yield (name, command) of what judges the controls."""
    own, dataset = root / "slides/s", root / "dataset"
    given = [*_TABLE, "--cells", own / "cells.parquet", "--counts", own / "counts.h5ad"]
    given += ["--splits", dataset / "splits/s.parquet", "--manifest", dataset / "manifest.json", "--params", params]
    about = ["--task", task, "--protocol", protocol]
    folds = root / f"folds/{protocol}.parquet"
    if task == "domains":
        made = ["--folds", folds, "--summary", folds.with_suffix(".json")]
        yield f"folds of {task}, {protocol}", stage("assign-folds", *about, *given, *made)
        given += ["--folds", folds]
    scores = ["--model", "controls", "--seed", "0", "--scores", root / f"{task}.{protocol}.json"]
    yield f"controls of {task}, {protocol}", stage("evaluate", *about, *given, *scores)


def _answers() -> tuple[np.ndarray, np.ndarray, Borders]:
    rng = np.random.default_rng(0)
    n, n_classes = _CELLS, 7
    labels = rng.integers(0, n_classes, n)
    probability = rng.dirichlet(np.ones(n_classes), n) + 0.5 * np.eye(n_classes)[labels]
    near = np.eye(n_classes, dtype=bool)[labels]
    where = Borders(rng.uniform(size=n) < 0.2, rng.uniform(0, 1000, n), near)
    return probability / probability.sum(axis=1, keepdims=True), labels, where


def _ours() -> Callable[[], float]:
    probability, labels, where = _answers()

    def way() -> float:
        start = time.process_time()
        tally(probability, labels, where).resampled(_DRAWS, np.random.default_rng(0)).scores()
        return time.process_time() - start

    return way


def _plain() -> Callable[[], float]:
    from sklearn.metrics import accuracy_score, adjusted_rand_score

    probability, labels, _ = _answers()
    predicted = probability.argmax(axis=1)

    def way() -> float:
        rng, start = np.random.default_rng(0), time.process_time()
        for _ in range(_PLAIN_DRAWS):
            drawn = rng.integers(0, len(labels), len(labels))
            adjusted_rand_score(labels[drawn], predicted[drawn])
            accuracy_score(labels[drawn], predicted[drawn])
        return (time.process_time() - start) * _DRAWS / _PLAIN_DRAWS

    return way


if __name__ == "__main__":
    graphs(int(sys.argv[1]))
