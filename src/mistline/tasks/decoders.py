"""From one table of numbers to another: ridge regression and a small network, for tasks that decode embeddings.

Both standardise on training items and choose on validation items: the penalty, and when to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mistline.core.seeds import derive

PENALTIES = tuple(10.0**power for power in range(-4, 4))  # a training item's share of the variance of a feature
_USUAL = 1.0
_HIDDEN, _RATE, _BATCH = 256, 1e-3, 200
_PATIENCE = 10  # epochs without a better validation error
_USUAL_EPOCHS = 30  # where there is no validation item

Table = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What is decoded, and from what; the targets of test items are not here.

    Args:
        points: split -> [n, D].
        targets: train and val -> [n, T].
    """

    points: dict[str, Table]
    targets: dict[str, Table]

    @property
    def has_validation(self) -> bool:
        """Whether there is anything to choose by."""
        return len(self.points["val"]) > 0


def ridge(pairs: Pairs, seed: int = 0) -> tuple[Table, dict[str, Any]]:
    """Return ([n, T] predictions of the test items, what was chosen).

    Args:
        pairs: points and targets.
        seed: not used: nothing is drawn.
    """
    del seed
    with threadpool_limits(limits=1):
        points = _standardised(pairs.points)
        centre = pairs.targets["train"].mean(axis=0, dtype=np.float64)
        x = points["train"].astype(np.float64)
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        turned = vectors.T @ (x.T @ (pairs.targets["train"] - centre) / len(x))

        def weights(penalty: float) -> NDArray[np.float64]:
            return vectors @ (turned / (np.maximum(values, 0) + penalty)[:, None])

        def error(penalty: float) -> float:
            return _error(points["val"] @ weights(penalty) + centre, pairs.targets["val"])

        penalty = min(PENALTIES, key=error) if pairs.has_validation else _USUAL
        return (points["test"] @ weights(penalty) + centre).astype(np.float32), {"penalty": penalty}


def mlp(pairs: Pairs, seed: int = 0, epochs: int = 100) -> tuple[Table, dict[str, Any]]:
    """Return the same of a network with one hidden layer, stopped by the validation error.

    Args:
        pairs: points and targets.
        seed: of its first weights and of the order of the items.
        epochs: at most.
    """
    from sklearn.neural_network import MLPRegressor

    points = _standardised(pairs.points)
    train = pairs.targets["train"]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    targets = {name: (values - mean) / scale for name, values in pairs.targets.items()}
    state = np.random.RandomState(derive(seed, "evaluate", "decoders", "mlp") % 2**32)
    batch = min(_BATCH, len(train))
    network = MLPRegressor(
        hidden_layer_sizes=(_HIDDEN,), learning_rate_init=_RATE, batch_size=batch, random_state=state
    )
    best: tuple[float, int, Table] | None = None
    with threadpool_limits(limits=1):
        for epoch in range(epochs if pairs.has_validation else min(epochs, _USUAL_EPOCHS)):
            # One target is a row of numbers to the library, not a table of one column.
            network.partial_fit(points["train"], targets["train"] if train.shape[1] > 1 else targets["train"].ravel())
            error = _error(_predict(network, points["val"]), targets["val"]) if pairs.has_validation else 0.0
            if best is None or error < best[0] or not pairs.has_validation:
                best = (error, epoch + 1, _predict(network, points["test"]))
            elif epoch + 1 - best[1] >= _PATIENCE:
                break
    if best is None:
        raise ValueError("epochs must be positive")
    return best[2] * scale + mean, {"epochs": best[1], "hidden": _HIDDEN}


DECODERS: dict[str, Callable[[Pairs, int], tuple[Table, dict[str, Any]]]] = {"ridge": ridge, "mlp": mlp}


def _predict(network: Any, points: Table) -> Table:
    return np.asarray(network.predict(points), dtype=np.float32).reshape(len(points), -1)


def _standardised(points: dict[str, Table]) -> dict[str, Table]:
    mean, spread = points["train"].mean(axis=0, dtype=np.float64), points["train"].std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1)
    return {name: ((values - mean) / scale).astype(np.float32) for name, values in points.items()}


def _error(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    return float(np.mean((predicted - truth) ** 2))
