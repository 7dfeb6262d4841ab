"""What visible cells alone say of hidden places: the controls of unseen generation.

Each is given the visible cells of one slide and the places of the hidden ones, and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mistline.core.seeds import derive
from mistline.tasks.unseen_generation import Params
from mistline.tasks.unseen_generation_problem import Places, Table, Visible

AROUND = 3.0  # side of the square whose visible cells a Gaussian process reads, in sides of the hole
COMPONENTS = 10  # of expression, that a Gaussian process predicts
WIDTHS = (256, 256)  # of the network's layers
EPOCHS = 100

Control = Callable[[Visible, Sequence[Places], Params, float], list[Table]]


def section_mean(visible: Visible, places: Sequence[Places], params: Params, side_um: float) -> list[Table]:
    """Predict the mean of the slide's visible cells."""
    mean = visible.mean.astype(np.float32)
    return [np.tile(mean, (len(part), 1)) for part in places]


def knn_mean(visible: Visible, places: Sequence[Places], params: Params, side_um: float) -> list[Table]:
    """Predict the mean of the nearest visible cells."""
    return _nearest(visible, places, params.n_neighbors)


def nearest_cell(visible: Visible, places: Sequence[Places], params: Params, side_um: float) -> list[Table]:
    """Predict the nearest visible cell."""
    return _nearest(visible, places, 1)


def _nearest(visible: Visible, places: Sequence[Places], k: int) -> list[Table]:
    tree, k = cKDTree(visible.xy_um), min(k, len(visible.xy_um))
    found = []
    for part in places:
        near = np.asarray(tree.query(part, k=k)[1]).ravel()
        weights = sparse.csr_matrix(
            (np.full(near.size, 1 / k, dtype=np.float32), near, np.arange(len(part) + 1) * k), (len(part), tree.n)
        )
        found.append((weights @ visible.logs).toarray().astype(np.float32))
    return found


def gaussian_process(visible: Visible, places: Sequence[Places], params: Params, side_um: float) -> list[Table]:
    """Predict by a Gaussian process over the place, one a hole.

    It reads visible cells of a square around the hole and predicts principal components of them, with one kernel
    (squared exponential and noise) chosen by the marginal likelihood.
    """
    return [_process(visible, part, params, side_um) for part in places]


def _process(visible: Visible, place: Places, params: Params, side_um: float) -> Table:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    centre = (place.min(axis=0) + place.max(axis=0)) / 2
    near = np.flatnonzero((np.abs(visible.xy_um - centre) <= AROUND * side_um / 2).all(axis=1))
    rows = visible.first(params.gp_cells, near if len(near) >= params.gp_fit_cells else None)
    mean, axes, scores = _components(visible.logs[rows].toarray())
    if not len(axes):
        return np.tile(mean.astype(np.float32), (len(place), 1))
    scale = scores.std(axis=0)
    xy, scores = (visible.xy_um[rows] - centre) / side_um, scores / scale
    # Neither a length below the distance of neighbours nor one far beyond the square can be told from these cells.
    kernel = ConstantKernel(0.5, (1e-3, 1e3)) * RBF(0.5, (0.02, 20.0)) + WhiteKernel(0.5, (1e-3, 1e2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a component without structure drives the kernel to its bounds
        chosen = GaussianProcessRegressor(kernel).fit(xy[: params.gp_fit_cells], scores[: params.gp_fit_cells])
        process = GaussianProcessRegressor(chosen.kernel_, optimizer=None).fit(xy, scores)
    told = np.asarray(process.predict((place - centre) / side_um)).reshape(len(place), -1)
    return (mean + (told * scale) @ axes).astype(np.float32)


def _components(
    logs: Table,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean [G], axes [c, G] and scores [n, c] of the components that carry anything."""
    table = logs.astype(np.float64)
    mean = table.mean(axis=0)
    left, size, right = np.linalg.svd(table - mean, full_matrices=False)
    kept = np.flatnonzero(size[:COMPONENTS] > 1e-6 * max(float(size[0]), 1e-12)) if len(size) else np.empty(0, int)
    return mean, right[kept], left[:, kept] * size[kept]


def network(visible: Visible, places: Sequence[Places], params: Params, side_um: float) -> list[Table]:
    """Predict by a network from the place to all genes, one a slide, stopped early on a tenth of its cells."""
    from sklearn.neural_network import MLPRegressor

    rows = visible.first(params.mlp_cells)
    xy = visible.xy_um[rows]
    mean = xy.mean(axis=0)
    spread = max(float((xy - mean).std()), 1e-9)
    seed = derive(params.seed, "evaluate", "unseen_generation", "mlp", visible.slide) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped after so many passes whether it has converged or not
        net = MLPRegressor(
            hidden_layer_sizes=WIDTHS,
            batch_size=min(256, int(0.9 * len(rows))),  # a tenth is held back
            early_stopping=True,
            max_iter=EPOCHS,
            random_state=seed,
        ).fit((xy - mean) / spread, visible.logs[rows].toarray().astype(np.float64))
    width = visible.logs.shape[1]
    return [net.predict((part - mean) / spread).reshape(len(part), width).astype(np.float32) for part in places]


CONTROLS: dict[str, Control] = {
    "section_mean": section_mean,
    "knn_mean": knn_mean,
    "nearest_cell": nearest_cell,
    "gp": gaussian_process,
    "mlp": network,
}
DESCRIPTIONS = {
    "section_mean": "the mean of the slide's visible cells, for every hidden one: a constant, which counts 0",
    "knn_mean": "the mean of the nearest visible cells: what a model must beat",
    "nearest_cell": "the nearest visible cell",
    "gp": f"a Gaussian process over the place for each hole, of {COMPONENTS} principal components, on visible cells "
    f"of a square of {AROUND:g} times its side",
    "mlp": f"a network of {' and '.join(map(str, WIDTHS))} units from the place to all genes, on visible cells of the "
    "slide",
}
