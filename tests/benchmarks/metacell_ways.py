"""The ways that the meta-cell gates compare, each a process: `python -m tests.benchmarks.metacell_ways WAY FOLDER`.

A way reads its input from the folder, writes its result there and the CPU time of its work, imports apart, into
`WAY.json`. The caller holds every way to one thread: then CPU time holds no waiting for other threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.mist.expression import log_normalise
from mistline.mist.kmeans import Settings, fit_kmeans
from mistline.mist.nearest import assign
from mistline.mist.pca import fit_pca, ordered_map

N_GENES = 500
N_TYPES = 150
N_COMPONENTS = 50
ITERATIONS = 20
ROWS = 16_384  # of one block
SEED = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is computed.

    Args:
        n_cells: rows of the expression matrix, all of them projected and assigned.
        n_points: the first of them, clustered.
        k: centres.
    """

    n_cells: int
    n_points: int
    k: int


def read_sizes(folder: Path) -> Sizes:
    """Return what `write_expression` was told."""
    return Sizes(**json.loads((folder / "sizes.json").read_text()))


def write_expression(folder: Path, sizes: Sizes) -> None:
    """Write log-normalised expression [n_cells, 500], CSR: cells are mixtures of two of 150 types, 72 genes each."""
    rng = np.random.default_rng(SEED)
    types = rng.gamma(0.35, size=(N_TYPES, N_GENES)) * rng.gamma(0.6, size=N_GENES)
    types = (types / types.sum(axis=1, keepdims=True) * 122).astype(np.float32)
    starts = range(0, sizes.n_cells, ROWS)

    def block(start: int) -> sparse.csr_matrix:
        return log_normalise(_counts(types, min(ROWS, sizes.n_cells - start), start), 100.0)

    ends = [np.zeros(1, dtype=np.int64)]
    with (folder / "data").open("wb") as data, (folder / "indices").open("wb") as indices:
        for part in ordered_map(block, starts, os.cpu_count() or 1):
            part.data.tofile(data)
            part.indices.astype(np.int32).tofile(indices)
            ends.append(ends[-1][-1] + part.indptr[1:].astype(np.int64))
    np.concatenate(ends).tofile(folder / "indptr")
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)))


def _counts(types: NDArray[np.float32], n: int, seed: int) -> sparse.csr_matrix:
    rng = np.random.default_rng([SEED, seed])
    first, second = rng.integers(0, len(types), (2, n))
    share = rng.beta(4, 1.2, (n, 1)).astype(np.float32)
    rate = types[first] * share
    rate += types[second] * (1 - share)
    rate *= rng.gamma(6, 1 / 6, (n, 1)).astype(np.float32)
    row, column = np.nonzero(rng.standard_exponential(rate.shape, dtype=np.float32) < rate)
    counts = 1 + rng.poisson(0.6 * rate[row, column])
    return sparse.csr_matrix((counts, (row, column)), shape=rate.shape)


def expression(folder: Path, start: int, stop: int, indptr: NDArray[np.int64]) -> sparse.csr_matrix:
    """Read some rows."""
    low, high = int(indptr[start]), int(indptr[stop])
    data = np.fromfile(folder / "data", np.float32, high - low, offset=4 * low)
    indices = np.fromfile(folder / "indices", np.int32, high - low, offset=4 * low)
    ends = (indptr[start : stop + 1] - low).astype(np.int32)
    return sparse.csr_matrix((data, indices, ends), shape=(stop - start, N_GENES))


def points(folder: Path, n: int) -> NDArray[np.float32]:
    """Read the PCA scores of the first n cells."""
    scores = np.fromfile(folder / "scores", np.float32, n * N_COMPONENTS)
    return scores.reshape(n, N_COMPONENTS)


@contextmanager
def measured(folder: Path, way: str) -> Iterator[None]:
    """Write what the work inside took."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    (folder / f"{way}.json").write_text(json.dumps(took))


def pca(folder: Path) -> None:
    """Stream the rows twice: components, then scores, which are written as they come."""
    with measured(folder, "pca"):
        indptr = np.fromfile(folder / "indptr", np.int64)
        n = len(indptr) - 1
        spans = [(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]
        found = fit_pca((expression(folder, *span, indptr) for span in spans), N_COMPONENTS)
        with (folder / "scores").open("wb") as stream:
            for scores in ordered_map(found.scores, (expression(folder, *span, indptr) for span in spans), 1):
                scores.tofile(stream)
    np.save(folder / "pca.npy", found.explained_variance)


def pca_reference(folder: Path) -> None:
    """Scikit-learn's PCA of a sparse matrix, components and scores."""
    from sklearn.decomposition import PCA

    with measured(folder, "pca_reference"):
        indptr = np.fromfile(folder / "indptr", np.int64)
        whole = expression(folder, 0, len(indptr) - 1, indptr)
        found = PCA(N_COMPONENTS, svd_solver="arpack", random_state=SEED)
        found.fit_transform(whole)
    np.save(folder / "pca_reference.npy", found.explained_variance_)


def kmeans(folder: Path) -> None:
    """Cluster with this project's k-means."""
    sizes = read_sizes(folder)
    scores = points(folder, sizes.n_points)
    with measured(folder, "kmeans"):
        found = fit_kmeans(scores, sizes.k, Settings(restarts=1, iterations=ITERATIONS, seed=SEED), "benchmark")
    np.save(folder / "kmeans.npy", found.centres)


def kmeans_reference(folder: Path) -> None:
    """Cluster with scikit-learn's, started by k-means++."""
    from sklearn.cluster import KMeans

    sizes = read_sizes(folder)
    scores = points(folder, sizes.n_points)
    with measured(folder, "kmeans_reference"):
        found = KMeans(sizes.k, init="k-means++", n_init=1, max_iter=ITERATIONS, random_state=SEED).fit(scores)
    np.save(folder / "kmeans_reference.npy", found.cluster_centers_)


def assignment(folder: Path) -> None:
    """Assign every cell to the nearest of our centres."""
    scores, centres = points(folder, read_sizes(folder).n_cells), np.load(folder / "kmeans.npy")
    with measured(folder, "assignment"):
        labels = assign(scores, centres)
    np.save(folder / "assignment.npy", labels)


def assignment_reference(folder: Path) -> None:
    """Do the same by scikit-learn's function."""
    from sklearn.metrics import pairwise_distances_argmin

    scores, centres = points(folder, read_sizes(folder).n_cells), np.load(folder / "kmeans.npy")
    with measured(folder, "assignment_reference"):
        labels = pairwise_distances_argmin(scores, centres)
    np.save(folder / "assignment_reference.npy", labels)


WAYS = {way.__name__: way for way in (pca, pca_reference, kmeans, kmeans_reference, assignment, assignment_reference)}

if __name__ == "__main__":
    WAYS[sys.argv[1]](Path(sys.argv[2]))
