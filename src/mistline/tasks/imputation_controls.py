"""What the arrays of a fold say of its tested genes without a model: the controls of imputation.

Each is given the view that methods are given and nothing else; `own_correlations`, a ceiling, is given the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from mistline.core.seeds import generator

if TYPE_CHECKING:
    from mistline.scrna.view import TrainView
    from mistline.tasks.imputation import Params

COMPONENTS = 30  # of the shared training genes, in which cells are matched
OWN = "own_correlations"
DESCRIPTIONS = {
    "total_map": "the mean over the training genes of the cell: one map for all genes",
    "correlated_genes": "the mean of the training genes most correlated with the gene in the reference, weighted by "
    "the correlation",
    "knn_transfer": "the mean of the single cells nearest in the principal components of the training genes, each side "
    "z-scored by itself",
    "permuted": "knn_transfer with the tested genes' columns of the reference dealt to each other",
    "zero": "nothing anywhere: a constant, which counts 0",
    "shuffled": "the method's own values, dealt to other cells",
    OWN: "ceiling: correlated_genes by the correlations on the slide itself, which only the measured gene tells",
}

Table = NDArray[np.float32]


def controls(view: TrainView, params: Params, fold: int) -> dict[str, Table]:
    """Return control -> [n, W] of the wanted genes.

    Args:
        view: n cells, G genes that may be read, m single cells.
        params: of the task.
        fold: its number, for the draw of `permuted`.
    """
    shape = len(view.spatial), len(view.wanted)
    near = nearest_cells(view.spatial, view.reference, params.n_neighbors)
    named = ("evaluate", "imputation", "permuted", view.slide, fold)
    dealt = deal(len(view.wanted), generator(params.seed, *named))
    weights = correlations(view.reference, view.wanted_reference)
    return {
        "total_map": np.tile(view.spatial.mean(axis=1, keepdims=True), (1, shape[1])),
        "correlated_genes": weighted_mean(view.spatial, weights, params.n_correlated),
        "knn_transfer": (near @ view.wanted_reference).astype(np.float32),
        "permuted": (near @ view.wanted_reference[:, dealt]).astype(np.float32),
        "zero": np.zeros(shape, dtype=np.float32),
    }


def ceilings(view: TrainView, truth: Table, params: Params) -> dict[str, Table]:
    """Return ceiling -> [n, W]; `truth` [n, W] is what was measured of the wanted genes."""
    return {OWN: weighted_mean(view.spatial, correlations(view.spatial, truth), params.n_correlated)}


def correlations(first: Table, second: Table) -> NDArray[np.float64]:
    """Return [G, W] correlations of the columns of [m, G] with those of [m, W]; 0 of a column that does not vary."""
    a, b = (_standard(table) for table in (first, second))
    return (a.T @ b / len(a)).astype(np.float64)


def weighted_mean(spatial: Table, r: NDArray[np.float64], k: int) -> Table:
    """Return [n, W]: means of the k columns of [n, G] of largest weight.

    Args:
        spatial: [n, G].
        r: [G, W]; negative ones weigh nothing, and where all do the k columns weigh the same.
        k: columns.
    """
    kept = np.argsort(-r, axis=0, kind="stable")[:k]
    weight = np.maximum(np.take_along_axis(r, kept, axis=0), 0)
    weight[:, weight.sum(axis=0) <= 0] = 1
    whole = np.zeros_like(r)
    np.put_along_axis(whole, kept, weight / weight.sum(axis=0), axis=0)
    return (spatial.astype(np.float64) @ whole).astype(np.float32)


def nearest_cells(spatial: Table, reference: Table, k: int) -> sparse.csr_matrix:
    """Return CSR [n, m] of equal weights of the k single cells nearest to each cell.

    Args:
        spatial: [n, G] of the slide.
        reference: [m, G] of the same genes.
        k: single cells.
    """
    own, others = _standard(spatial), _standard(reference)
    k = min(k, len(others))
    axes = PCA(min(COMPONENTS, *others.shape), svd_solver="covariance_eigh").fit(others)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(axes.transform(others))
    found = search.kneighbors(axes.transform(own), return_distance=False)
    starts = np.arange(len(own) + 1) * k
    return sparse.csr_matrix((np.full(found.size, 1 / k), found.ravel(), starts), shape=(len(own), len(others)))


def deal(n: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return [n] an order in which no item is at its own place, where there are two or more."""
    order = random.permutation(n)
    found = np.empty(n, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def _standard(table: Table) -> Table:
    """Return [n, G] z-scored columns; 0 in those that do not vary."""
    centred = table - table.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.einsum("ij,ij->j", centred, centred, dtype=np.float64) / len(table))
    varies = np.ptp(table, axis=0) > 0
    scale = np.where(varies, 1 / np.where(varies, spread, 1), 0).astype(np.float32)
    found: Table = centred * scale
    return found
