"""What single cells and measured genes say of a gene without a network: the mean of three estimates.

`n` cells, `m` single cells, `G` training genes, `k` some genes. All genes are standardised.

* neighbours: the training genes that correlate most with the gene in the reference, weighted by how much;
* regression: of the gene on all training genes, fitted on single cells, with a ridge;
* transfer: the mean of the single cells most like a cell, where both techniques vary alike (principal vectors, as
  SpaGE finds them).

A gene that varies little on the slide is mostly noise there, so the first two weigh genes by their spread. A training
gene's own estimate is made without it: it teaches what is left to say where a gene is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mistline.models.spadit.reference import Reference, nearest, standardised
from mistline.models.spadit.space import Floats, Measured

_RIDGES = (1.0, 3.0, 10.0, 30.0)
_NEAREST_GENES, _NEAREST_CELLS = 10, 50
_VECTORS, _LEAST_COSINE = 50, 0.3
_GROUPS = 5  # of training genes that a transfer leaves out at once
_MOST_CELLS = 5000  # of the reference, for a transfer
_ROWS = 2048  # cells that are compared with the reference at once


@dataclass(frozen=True, slots=True)
class Estimator:
    """The three estimates of a pair.

    Args:
        measured: the slide.
        reference: the single cells.
        spread: [G] of training genes on the slide, mean 1.
        inverse: [G, G] of the regression.
        shrunk: what a standardised mean of estimates is multiplied with, for the least squared error.
        ridge: of the regression, the best for training genes left out.
        score: mean correlation of training genes with their estimates.
    """

    measured: Measured
    reference: Reference
    spread: Floats
    inverse: Floats
    shrunk: float
    ridge: float
    score: float

    @classmethod
    def of(cls, measured: Measured, reference: Reference) -> tuple[Estimator, NDArray[np.float32]]:
        """Return the estimator, and [n, G] estimates of training genes, each without itself."""
        spread = measured.scale[~measured.is_val] / measured.scale[~measured.is_val].mean()
        among = reference.among
        with threadpool_limits(limits=1):
            tried = [_inverse(among, spread, ridge) for ridge in _RIDGES]
            scores = [_score(_left_out(inverse, among, spread), measured.among).mean() for inverse in tried]
        best = int(np.argmax(scores))
        found = cls(measured, reference, spread, tried[best], 1.0, _RIDGES[best], 0.0)
        weights = found._linear(_left_out(found.inverse, among, spread), among, np.arange(len(among)))
        told = found._joined(weights, found._transferred_left_out())
        truth = measured.standardised()[:, ~measured.is_val]
        score = float((told * truth).mean(axis=0).mean())  # both have variance 1
        shrunk = max(score, 0.0)
        return cls(measured, reference, spread, tried[best], shrunk, _RIDGES[best], score), _single(shrunk * told)

    def estimates(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [n, k] of genes that are no training genes, from their values [m, k] in the reference."""
        correlations = self.reference.correlations(values)
        regression = self.spread[:, None] * (self.inverse @ (self.spread[:, None] * correlations))
        everything = np.arange(len(self.spread))
        told = self._joined(self._linear(regression, correlations, None), self._transferred(everything, values))
        return _single(self.shrunk * told)

    def _linear(self, regression: Floats, correlations: Floats, own: NDArray[np.int64] | None) -> Floats:
        """Return [G, k] weights of training genes: regression and neighbours, each of variance 1 on the slide."""
        near = np.zeros_like(correlations)
        places = nearest(correlations, min(_NEAREST_GENES, len(near) - 1), own).T
        likeness = np.maximum(np.take_along_axis(correlations, places, axis=0), 0)
        np.put_along_axis(near, places, likeness * self.spread[places], axis=0)
        return self._unit(regression) + self._unit(near)

    def _unit(self, weights: Floats) -> Floats:
        size = np.sqrt(np.maximum((weights * (self.measured.among @ weights)).sum(axis=0), 0))
        return np.divide(weights, size, out=np.zeros_like(weights), where=size > 1e-9)

    def _joined(self, weights: Floats, transferred: Floats) -> Floats:
        """Return [n, k] standardised sums of linear and transferred estimates."""
        told = standardised(transferred)
        for rows, values in self.measured.chunks():
            told[rows] += values @ weights
        return standardised(told)

    def _transferred_left_out(self) -> Floats:
        """Return [n, G] of training genes, a group at a time from the others."""
        n_genes = len(self.spread)
        told = np.zeros((len(self.measured.values), n_genes))
        n_groups = min(_GROUPS, n_genes)
        for group in range(n_groups):
            out = np.arange(n_genes) % n_groups == group
            told[:, out] = self._transferred(np.flatnonzero(~out), self.reference.values[:, out])
        return told

    def _transferred(self, genes: NDArray[np.int64], values: NDArray[np.floating]) -> Floats:
        """Return [n, k] of genes [m, k], from single cells that are alike in some training genes."""
        step = -(-len(values) // _MOST_CELLS)
        cells, given = self.reference.values[::step][:, genes], _single(values[::step])
        with threadpool_limits(limits=1):
            axes = _shared(self.measured.among[np.ix_(genes, genes)], cells.T @ cells / len(cells))
        singles, n_near = _normalised(cells @ axes), min(_NEAREST_CELLS, len(cells))
        told = np.empty((len(self.measured.values), given.shape[1]))
        for rows, own in self.measured.chunks(_ROWS):
            cosine = _normalised(own[:, genes] @ axes) @ singles.T
            near = np.argpartition(-cosine, n_near - 1, axis=1)[:, :n_near]
            weight = np.maximum(np.take_along_axis(cosine, near, axis=1), 0)
            weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-9))
            dense = np.zeros_like(cosine)
            np.put_along_axis(dense, near, weight, axis=1)
            told[rows] = dense @ given
        return told


def _shared(slide: Floats, singles: Floats) -> Floats:
    """Return [G, v] directions in which both vary, from correlations of genes: principal vectors of the reference."""
    n = min(_VECTORS, len(slide) - 1)
    ours, theirs = (np.linalg.eigh(value)[1][:, ::-1][:, :n] for value in (slide, singles))
    left, cosines, _ = np.linalg.svd(theirs.T @ ours)
    return theirs @ left[:, : max(int((cosines > _LEAST_COSINE).sum()), 1)]


def _inverse(among: Floats, spread: Floats, ridge: float) -> Floats:
    return np.linalg.inv(spread[:, None] * among * spread + ridge * np.eye(len(among)))


def _left_out(inverse: Floats, among: Floats, spread: Floats) -> Floats:
    """Return [G, G] weights of the other genes: those of the inverse without a gene's own row and column."""
    others = spread[:, None] * (among - np.diag(np.diag(among)))
    weights = inverse @ others
    return np.asarray(spread[:, None] * (weights - inverse * (np.diag(weights) / np.diag(inverse))))


def _score(weights: Floats, slide: Floats) -> Floats:
    """Return [G] correlations of training genes with weighted sums of them."""
    size = np.sqrt(np.maximum((weights * (slide @ weights)).sum(axis=0), 0))
    along = (weights * slide).sum(axis=0)
    return np.divide(along, size, out=np.zeros_like(along), where=size > 1e-9)


def _normalised(rows: Floats) -> NDArray[np.float32]:
    return _single(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))


def _single(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return values.astype(np.float32)
