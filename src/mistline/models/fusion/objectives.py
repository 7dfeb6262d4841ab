"""What a network is trained for: classes of labelled cells, or the genes it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12


class Objective(Protocol):
    """A loss over a network's outputs for some cells, and the genes to give back where there are any."""

    stop_on: str
    """Name of the judged figure that decides when to stop."""

    larger_is_better: bool
    """Which way that figure goes."""

    def loss(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return the loss of these cells, a number."""
        ...

    def judge(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return [n, J] rows that `summary` takes, of validation cells."""
        ...

    def summary(self, rows: Tensor) -> Mapping[str, float]:
        """Return the figures of all validation cells."""
        ...


class Labels:
    """Cross-entropy, weighted by class.

    Args:
        label: [N] classes, -1 where unknown.
        weight: [L] of the classes; see `class_weights`.
        stop_on: macro_f1 or loss.
        device: where the network runs.
    """

    def __init__(self, label: NDArray[np.int64], weight: NDArray[np.float64], stop_on: str, device: str) -> None:
        self._label = torch.from_numpy(label).to(device)
        self._weight = torch.from_numpy(weight.astype(np.float32)).to(device)
        self.stop_on = f"val_{stop_on}"
        self.larger_is_better = stop_on == "macro_f1"

    def loss(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return the weighted mean."""
        del target
        return functional.cross_entropy(outputs, self._label[torch.from_numpy(cells).to(outputs.device)], self._weight)

    def judge(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return [n, 4]: weighted loss, weight, label, prediction."""
        del target
        label = self._label[torch.from_numpy(cells).to(outputs.device)]
        loss = functional.cross_entropy(outputs, label, self._weight, reduction="none")
        return torch.stack([loss, self._weight[label], label.float(), outputs.argmax(dim=1).float()], dim=1)

    def summary(self, rows: Tensor) -> Mapping[str, float]:
        """Return val_loss and val_macro_f1."""
        table = rows.cpu().double().numpy()
        label, predicted = table[:, 2].astype(np.int64), table[:, 3].astype(np.int64)
        loss = float(table[:, 0].sum() / max(table[:, 1].sum(), _TINY))
        return {"val_loss": loss, "val_macro_f1": macro_f1(label, predicted, len(self._weight))}


class Reconstruction:
    """Mean square of the difference between the genes given and those given back."""

    stop_on = "val_loss"
    larger_is_better = False

    def loss(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return the mean."""
        return self.judge(outputs, cells, target).mean()

    def judge(self, outputs: Tensor, cells: NDArray[np.int64], target: Tensor | None) -> Tensor:
        """Return [n, 1]: each cell's mean square."""
        del cells
        if target is None:
            raise RuntimeError("nothing to reconstruct was given")
        return (outputs - target).square().mean(dim=1, keepdim=True)

    def summary(self, rows: Tensor) -> Mapping[str, float]:
        """Return val_loss."""
        return {"val_loss": float(rows.double().mean())}


def class_weights(train: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return [L] weights that sum to L, each the inverse of the class's training cells; 0 for a class without any.

    Args:
        train: classes of the training cells.
        n_classes: L.
    """
    count = np.bincount(train, minlength=n_classes)
    inverse = np.where(count > 0, 1 / np.maximum(count, 1), 0.0)
    return inverse * (n_classes / inverse.sum())


def macro_f1(label: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> float:
    """Return the mean F1 of the classes that occur among the labels."""
    confusion = np.bincount(label * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    right, n_label, n_predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * right / np.maximum(n_label + n_predicted, 1)
    return float(f1[n_label > 0].mean())
