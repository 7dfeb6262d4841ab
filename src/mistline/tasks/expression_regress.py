"""From features of a patch to its genes: scaling and components, then boosted trees and ridge regression.

The settings are those of HEST-bench, but for the penalty of the ridge, which leave-one-out errors of the training
cells choose here, out of a fixed list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

N_COMPONENTS = 256
TREES: dict[str, Any] = {
    "n_estimators": 100,
    "max_depth": 3,
    "learning_rate": 0.1,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "min_child_weight": 1,
    "reg_lambda": 1,
    "random_state": 1,
}
FEW = 1000  # training cells up to which every split is tried, which is faster then; more go by histograms
PENALTIES = tuple(10.0**power for power in range(-1, 7))
WAYS = ("xgboost", "ridge")

Table = NDArray[np.float32]


def regress(train: Table, known: Table, test: Table) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Fit on training cells, and predict the tested ones.

    Args:
        train: [n, D] features.
        known: [n, G] targets.
        test: [m, D] features.

    Returns:
        (way -> [m, G] predictions, what was chosen). One thread each, so that threads do not change the result.
    """
    from sklearn.linear_model import RidgeCV
    from xgboost import XGBRegressor

    with threadpool_limits(limits=1):
        x, x_test = components(train, test)
        ridge = RidgeCV(alphas=PENALTIES).fit(x, known)
        method = "exact" if len(x) <= FEW else "hist"
        trees = XGBRegressor(**TREES, n_jobs=1, tree_method=method).fit(x.astype(np.float32), known)
        found = {"xgboost": trees.predict(x_test.astype(np.float32)), "ridge": ridge.predict(x_test)}
    shaped = {way: np.asarray(found[way], dtype=np.float64).reshape(len(test), -1) for way in WAYS}
    return shaped, {"penalty": float(ridge.alpha_), "n_components": x.shape[1]}


def components(train: Table, test: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardise, and turn to principal components, both fitted on the training cells alone."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n = max(1, min(N_COMPONENTS, train.shape[1], len(train) - 1))
    steps = make_pipeline(StandardScaler(), PCA(n, svd_solver="full")).fit(train.astype(np.float64))
    return steps.transform(train.astype(np.float64)), steps.transform(test.astype(np.float64))
