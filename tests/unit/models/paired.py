"""A slide and single cells that are made of the same few programs, as the views that methods are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.scrna.view import TrainView


def paired(
    n: int = 200, m: int = 300, n_genes: int = 30, n_wanted: int = 6, seed: int = 0
) -> tuple[TrainView, NDArray[np.float32]]:
    """Return a view and float32 [n, n_wanted], what the slide would have measured of its wanted genes."""
    rng = np.random.default_rng(seed)
    loads = np.abs(rng.normal(size=(4, n_genes + n_wanted)))
    bias = rng.uniform(0.5, 2, size=n_genes + n_wanted)  # the slide's technique sees some genes better than others
    counts = [
        rng.poisson(factor * (rng.dirichlet([0.3] * 4, size=cells) @ loads) * 20)
        for cells, factor in ((n, bias), (m, np.ones_like(bias)))
    ]
    logs = [np.log1p(1e4 * rows / rows.sum(axis=1, keepdims=True)).astype(np.float32) for rows in counts]
    stored = [sparse.csr_matrix(rows) for rows in counts]
    view = TrainView(
        slide="s",
        cell_id=np.array([f"c{i}" for i in range(n)]),
        genes=tuple(f"G{i}" for i in range(n_genes)),
        is_val=np.arange(n_genes) % 6 == 0,
        spatial=logs[0][:, :n_genes],
        counts=stored[0][:, :n_genes],
        xy_um=rng.uniform(0, 100, size=(n, 2)),
        reference=logs[1][:, :n_genes],
        reference_counts=stored[1][:, :n_genes],
        wanted=tuple(f"W{i}" for i in range(n_wanted)),
        wanted_reference=logs[1][:, n_genes:],
        wanted_counts=stored[1][:, n_genes:],
    )
    return view, logs[0][:, n_genes:]


def correlation(truth: NDArray[np.float32], mean: NDArray[np.float32]) -> float:
    """Return the mean over genes of Pearson's r."""
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(truth.T, mean.T, strict=True)]))
