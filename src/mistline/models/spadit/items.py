"""Genes as the network is taught and told them: what is diffused of each, and its condition.

`G` training genes, `V` validation genes, `W` wanted ones, `k` of any, `p` numbers of a variable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.spadit.estimate import Estimator
from mistline.models.spadit.network import Told
from mistline.models.spadit.params import Params
from mistline.models.spadit.reference import Levels, Reference, nearest
from mistline.models.spadit.space import Floats, Measured, Space
from mistline.scrna.view import TrainView

LEAST_GENES = 4


@dataclass(frozen=True, slots=True)
class Genes:
    """Some genes.

    Args:
        estimate: [n, k] standardised, what a variable is the rest of.
        told: condition.
        rest: float32 [k, p] variables, standardised; None for genes that are not measured.
    """

    estimate: NDArray[np.float32]
    told: Told
    rest: Tensor | None


class Items:
    """The genes of a pair.

    Args:
        params: settings.
        view: what may be read of it.
        seed: of the meta-cells.

    Raises:
        InputError: there are too few training genes, or none varies.
    """

    def __init__(self, params: Params, view: TrainView, seed: int) -> None:
        train = ~view.is_val
        if train.sum() < LEAST_GENES or train.all():
            what = f"{train.sum()} training genes and {(~train).sum()} validation genes are shared with the reference"
            remedy = f"use one that shares more: at least {LEAST_GENES} and 1 are needed"
            raise InputError(f"slide {view.slide}", what, remedy)
        self._params = params
        self.measured = Measured.of(view.spatial, view.is_val)
        self.space = Space.of(self.measured, params.space, params.n_components)
        known = view.reference[:, train]
        self.reference = Reference.of(known, params.n_metacells, derive(seed, "spadit", "metacells"))
        self.estimator, estimate = Estimator.of(self.measured, self.reference)
        self.levels = Levels.of(known, self.measured.mean[train], self.measured.scale[train])
        values = self.measured.standardised()
        self._mean = values[:, train].mean(axis=1, keepdims=True).astype(np.float32)
        self._own = self.space.variables(self.measured, values[:, train] - self._mean)
        self._near_unit = _unit(self._own)
        self._near_profile = self.reference.profiles(known)
        if params.base == "mean":
            estimate = np.broadcast_to(self._mean, estimate.shape)
        rest = self.space.variables(self.measured, values[:, train] - estimate)
        self.unit = _unit(rest)  # [p] what a variable's number is divided by
        neighbours = nearest(self.reference.among, self._n_near(), np.arange(train.sum()))
        self.train = self._genes(known, estimate, neighbours, rest)
        told = self.wanted(view.reference[:, view.is_val])
        rest = self.space.variables(self.measured, values[:, view.is_val] - told.estimate)
        self.val = Genes(told.estimate, told.told, _tensor(rest / self.unit))

    def wanted(self, reference: NDArray[np.float32]) -> Genes:
        """Return genes that were not measured, from the reference's values [m, k] of them."""
        neighbours = nearest(self.reference.correlations(reference), self._n_near())
        if self._params.base == "mean":
            estimate = np.broadcast_to(self._mean, (len(self._mean), reference.shape[1]))
        else:
            estimate = self.estimator.estimates(reference)
        return self._genes(reference, estimate, neighbours, None)

    def _n_near(self) -> int:
        return min(self._params.neighbours, len(self._own) - 1)

    def _genes(
        self,
        reference: NDArray[np.float32],
        estimate: NDArray[np.float32],
        neighbours: NDArray[np.int64],
        rest: Floats | None,
    ) -> Genes:
        """Return genes [m, k] with their neighbours [k, K]."""
        likeness = np.take_along_axis(self.reference.correlations(reference), neighbours.T, axis=0).T
        base = self.space.variables(self.measured, estimate - self._mean)
        told = Told(
            base=_tensor(base / self._near_unit),
            profile=torch.from_numpy(self.reference.profiles(reference)),
            near=_tensor((self._own / self._near_unit)[neighbours]),
            near_profile=torch.from_numpy(self._near_profile[neighbours]),
            likeness=_tensor(likeness),
        )
        return Genes(estimate, told, None if rest is None else _tensor(rest / self.unit))


def _unit(variables: Floats) -> Floats:
    """Return [p] root mean squares of [k, p], 1 where there is nothing."""
    found = np.sqrt(np.square(variables).mean(axis=0))
    return np.where(found > 1e-9, found, 1.0)


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
