"""Gates of the meta-cells against scikit-learn: components, clustering, assignment; CPU time, one thread each.

A million cells of 500 genes by default, scaled with `--cells` for trying out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mistline.mist.nearest import squared_distances
from tests.benchmarks.bench import Bench, Gate, alternate, child
from tests.benchmarks.metacell_ways import ITERATIONS, Sizes, points, write_expression

_ROUNDS = 2  # of the long ones
_ONE_THREAD = ("env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1")


def measure(bench: Bench) -> Iterator[Gate]:
    """Write the expression once, then compare way by way."""
    folder = bench.scratch("metacells")
    sizes = Sizes(n_cells=40 * bench.n_cells, n_points=12 * bench.n_cells, k=max(2, bench.n_cells // 25))
    write_expression(folder, sizes)
    rounds = min(bench.rounds, _ROUNDS)
    yield _faster(folder, "pca", f"PCA of {sizes.n_cells:,} x 500, sparse, to scores; arpack", rounds, 3.0)
    yield _same_variance(folder)
    name = f"k-means of {sizes.n_points:,} x 50, K = {sizes.k}, {ITERATIONS} iterations; k-means++"
    yield _faster(folder, "kmeans", name, rounds, 5.0)
    yield _as_tight(folder, sizes)
    name = f"assignment of {sizes.n_cells:,}, K = {sizes.k}; pairwise_distances_argmin"
    yield _faster(folder, "assignment", name, bench.rounds, 1.8)
    yield _same_labels(folder, sizes)


def _faster(folder: Path, way: str, name: str, rounds: int, least: float) -> Gate:
    """Run both ways in turn."""
    ways = (way, f"{way}_reference")
    peaks: dict[str, float] = {}
    walls: dict[str, list[float]] = {one: [] for one in ways}

    def run(one: str) -> float:
        used = child([*_ONE_THREAD, sys.executable, "-m", "tests.benchmarks.metacell_ways", one, folder])
        took = json.loads((folder / f"{one}.json").read_text())
        peaks[one] = max(used.peak_mib, peaks.get(one, 0.0))
        walls[one].append(took["wall_s"])
        return took["cpu_s"]

    calls: dict[str, Callable[[], float]] = {one: partial(run, one) for one in ways}
    took = alternate(calls, rounds)
    ours, reference = ways
    note = f"wall {np.median(walls[ours]):.1f} against {np.median(walls[reference]):.1f} s, "
    note += f"peak {peaks[ours]:,.0f} against {peaks[reference]:,.0f} MiB"
    return Gate(name, "CPU s", took[ours], took[reference], least=least, note=note)


def _same_variance(folder: Path) -> Gate:
    ours, reference = (np.load(folder / f"{way}.npy").astype(np.float64) for way in ("pca", "pca_reference"))
    off = float(np.abs(ours / reference - 1).max())
    return Gate("PCA, explained variance of any component off by", "of it", off, limit=1e-4)


def _as_tight(folder: Path, sizes: Sizes) -> Gate:
    from sklearn.metrics import pairwise_distances_argmin

    scores = points(folder, sizes.n_points)
    found = {}
    for way in ("kmeans", "kmeans_reference"):
        centres = np.load(folder / f"{way}.npy")
        labels = pairwise_distances_argmin(scores, centres)
        found[way] = float(squared_distances(scores, centres, labels).mean())
    off = 100 * (found["kmeans"] / found["kmeans_reference"] - 1)
    note = f"{found['kmeans']:.4f} against {found['kmeans_reference']:.4f}"
    return Gate("k-means, mean squared distance over the reference's", "%", off, limit=0.5, note=note)


def _same_labels(folder: Path, sizes: Sizes) -> Gate:
    """Count the cells with another label, unless both centres are equally near."""
    ours, reference = (np.load(folder / f"{way}.npy") for way in ("assignment", "assignment_reference"))
    centres = np.load(folder / "kmeans.npy")
    other = np.flatnonzero(ours != reference)
    scores = points(folder, sizes.n_cells)[other]
    wrong = squared_distances(scores, centres, ours[other]) != squared_distances(scores, centres, reference[other])
    note = f"{len(other) - int(wrong.sum())} equally near"
    return Gate("assignment, cells with another nearest centre", "cells", float(wrong.sum()), limit=0, note=note)
