"""Meta-cells: how their profiles are read, and fitting them where a dataset has none (specs/gest.md section 4).

`K` meta-cells over `T` genes in a space of `p` components.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Needs, Source
from mistline.models.gest.params import Params
from mistline.models.moments import Moments
from mistline.models.sampling import drawn
from mistline.models.vocabulary import Vocabulary

VALUES = ("counts", "normalised", "log")  # positions are stored with the weights
NEEDS = Needs(genes="dense", batch_size=2048)

_SMALLEST = 1e-4  # share of the largest standard deviation below which a component is noise
_CONSTANT = 1e-6  # standard deviation of a gene that does not vary
_RESTARTS = 3
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Query:
    """How a cell is given its meta-cell (algorithm 2): normalised, projected, the nearest centre.

    Args:
        values: int64 [1] what its values are, a place in `VALUES`.
        depth: [1] what counts are scaled to.
        share: [T] share of each gene in the counts of the training cells.
        mean: float32 [T] of the normalised training cells.
        axes: float32 [T, p].
        centres: float32 [K, p].
    """

    values: NDArray[np.int64]
    depth: NDArray[np.float64]
    share: NDArray[np.float64]
    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    centres: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return name -> array."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def profiles(self, genes: NDArray[np.floating], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return float32 [B, T] log-normalised values; a gene that was not measured is at the mean."""
        return np.where(measured, self.normalised(genes, measured), self.mean).astype(np.float32)

    def assign(self, genes: NDArray[np.floating], measured: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return int64 [B] meta-cells.

        A gene that was not measured is at the mean, and the depth is scaled to the share of those that were.

        Args:
            genes: [B, T] values.
            measured: bool [B, T].
        """
        scores = self.scores(genes, measured)
        centres = self.centres.astype(np.float64)
        squared = np.square(centres).sum(axis=1) - 2 * (scores @ centres.T)
        return squared.argmin(axis=1).astype(np.int64)

    def scores(self, genes: NDArray[np.floating], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return [B, p]; see `assign`."""
        rows = self.normalised(genes, measured)
        return np.where(measured, rows - self.mean, 0.0) @ self.axes.astype(np.float64)

    def normalised(self, genes: NDArray[np.floating], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return [B, T] log-normalised values; 0 where nothing was measured."""
        rows = np.where(measured, genes, 0).astype(np.float64)
        kind = VALUES[int(self.values[0])]
        if kind == "log":
            return rows
        if kind == "normalised":
            return np.log1p(rows)
        target = self.depth[0] * (measured @ self.share)[:, None]
        return np.log1p(rows * (target / np.maximum(rows.sum(axis=1, keepdims=True), 1.0)))


def restored(arrays: Mapping[str, NDArray[Any]]) -> Query:
    """Return what `Query.arrays` gave."""
    return Query(**{item.name: arrays[item.name] for item in fields(Query)})


def columns(genes: tuple[str, ...], source: Source, least: float) -> NDArray[np.int64]:
    """Return int64 [T] where genes of a vocabulary are in a source; -1 for a gene it does not know.

    Raises:
        InputError: a slide measured less than a share `least` of them.
    """
    place = {gene: number for number, gene in enumerate(source.genes)}
    found = np.array([place.get(gene, -1) for gene in genes], dtype=np.int64)
    for slide in source.slides:
        covered = float((np.asarray(source.panels[slide], dtype=bool)[found] & (found >= 0)).mean())
        if covered < least:
            what = f"it measured {covered:.0%} of the genes of the meta-cells, fewer than {least:.0%}"
            raise InputError(f"slide {slide}", what, "train on slides with these genes, or lower min_overlap")
    return found


def values_of(batch: Batch, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return values and whether they were measured, [B, T] each.

    Args:
        batch: with dense genes.
        places: [T] of `columns`.
    """
    if batch.genes is None:
        raise RuntimeError("the source gave no dense genes although they were asked for")
    genes = batch.genes.numpy()[:, places]
    known = np.broadcast_to(places >= 0, genes.shape)
    return genes, known if batch.measured is None else known & batch.measured.numpy()[:, places]


def fit(source: Source, params: Params, seed: int) -> tuple[Vocabulary, Query]:
    """Fit meta-cells on training cells (algorithm 1): components, k-means in their space, and its coarser levels.

    Raises:
        InputError: there are too few cells or genes for them.
    """
    genes = _refuse_none(source)
    start = _start(source, params, seed)
    moments = Moments(len(genes))
    for rows in _rows(source, start, params, seed):
        moments.add(rows)
    found = moments.components(params.n_components)
    basis = replace(start, mean=found.mean, axes=found.axes)
    scores = np.concatenate([(rows - basis.mean) @ basis.axes for rows in _rows(source, start, params, seed)])
    labels = _clustered(scores.astype(np.float32), params, seed)
    size = np.bincount(labels)
    centres = (_sums(scores, labels, len(size)) / size[:, None]).astype(np.float32)
    expression = np.zeros((len(size), len(genes)))
    first = 0
    for rows in _rows(source, start, params, seed):
        expression += _sums(rows, labels[first : first + len(rows)], len(size))
        first += len(rows)
    levels = [_groups(centres, min(n, len(size)), seed) for n in params.levels]
    stacked = np.stack(levels, axis=1) if levels else np.zeros((len(size), 0), dtype=np.int64)
    vocabulary = Vocabulary(genes, (expression / size[:, None]).astype(np.float32), stacked)
    return vocabulary, replace(basis, centres=centres)


def plain(source: Source, params: Params, seed: int) -> tuple[Query, NDArray[np.float32]]:
    """Return what normalises training cells, without meta-cells, and float32 [T] the standard deviation of each gene.

    Raises:
        InputError: there are no cells, or no gene is measured on every slide.
    """
    _refuse_none(source)
    start = _start(source, params, seed)
    n, total, squares = 0, 0.0, 0.0
    for rows in _rows(source, start, params, seed):
        n, total, squares = n + len(rows), total + rows.sum(axis=0), squares + np.square(rows).sum(axis=0)
    mean = total / n
    spread = np.sqrt(np.maximum(squares / n - np.square(mean), 0.0))
    found = replace(start, mean=np.asarray(mean, dtype=np.float32))
    return found, np.where(spread > _CONSTANT, spread, 1.0).astype(np.float32)


def whitened(expression: NDArray[np.float32], n_components: int) -> NDArray[np.float32]:
    """Return [K, p] profiles as they are read: centred, in principal components, each of variance 1.

    Meta-cells share most of their expression: raw, all profiles point in one direction.

    Args:
        expression: [K, T].
        n_components: at most so many; fewer where the others hold nothing.
    """
    rows = expression.astype(np.float64)
    rows = rows - rows.mean(axis=0)
    with threadpool_limits(limits=1):  # the same for any number of threads
        left, spread, _ = np.linalg.svd(rows, full_matrices=False)
    kept = min(n_components, int((spread > _SMALLEST * max(float(spread[0]), 1e-12)).sum()))
    if not kept:
        raise InputError("meta-cells", "all of them have the same profile", "fit more of them, on more cells")
    found = left[:, :kept] * np.sqrt(len(rows))
    return (found * np.where(found[np.abs(found).argmax(axis=0), np.arange(kept)] < 0, -1.0, 1.0)).astype(np.float32)


def _refuse_none(source: Source) -> tuple[str, ...]:
    """Return the genes that all slides measured."""
    if not source.common_genes:
        raise InputError("dataset", "no gene is measured on every slide", "train on slides of one panel")
    return source.common_genes


def _start(source: Source, params: Params, seed: int) -> Query:
    """Return what normalises: depth and shares of genes; no components yet."""
    places = columns(source.common_genes, source, 0.0)
    totals, per_gene = [], np.zeros(len(places))
    for batch in drawn(source, NEEDS, params.max_fit_cells, seed):
        genes, _ = values_of(batch, places)
        totals.append(genes.sum(axis=1))
        per_gene += genes.sum(axis=0)
    if not totals:
        raise InputError("training cells", "there is none", "look at splits.json")
    depth = np.array([max(float(np.median(np.concatenate(totals))), 1.0)])
    values = np.array([VALUES.index(source.values)], dtype=np.int64)
    none = np.zeros((0, 0), dtype=np.float32)
    return Query(values, depth, per_gene / max(per_gene.sum(), 1e-12), none, none, none)


def _rows(source: Source, start: Query, params: Params, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the normalised training cells of the fit, [B, T] each."""
    places = columns(source.common_genes, source, 0.0)
    for batch in drawn(source, NEEDS, params.max_fit_cells, seed):
        yield start.normalised(*values_of(batch, places))


def _clustered(scores: NDArray[np.float32], params: Params, seed: int) -> NDArray[np.int64]:
    """Return the meta-cell of each row, the most frequent being the first; small ones are dropped."""
    if len(scores) < params.n_metacells:
        what = f"{params.n_metacells} meta-cells were asked for, but there are {len(scores)} training cells"
        raise InputError("n_metacells", what, f"set it to {max(2, len(scores) // params.min_cells_metacell)} or less")
    random = derive(seed, "gest", "metacells") % 2**32
    with threadpool_limits(limits=1):
        means = MiniBatchKMeans(params.n_metacells, n_init=_RESTARTS, batch_size=_BLOCK, random_state=random)
        labels = means.fit_predict(scores)
        size = np.bincount(labels, minlength=params.n_metacells)
        kept = np.flatnonzero(size >= params.min_cells_metacell)
        if len(kept) < 2:
            what = f"{len(kept)} of {params.n_metacells} hold {params.min_cells_metacell} training cells or more"
            raise InputError("n_metacells", what, "lower n_metacells or min_cells_metacell")
        centres = means.cluster_centers_[kept].astype(np.float64)
        squared = np.square(centres).sum(axis=1) - 2 * (scores.astype(np.float64) @ centres.T)
        labels = squared.argmin(axis=1)
    size = np.bincount(labels, minlength=len(kept))
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    rank = np.empty(len(kept), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels]


def _groups(centres: NDArray[np.float32], n: int, seed: int) -> NDArray[np.int64]:
    """Return int64 [K] groups of the centres; each level is grouped by itself."""
    random = derive(seed, "gest", "level", n) % 2**32
    with threadpool_limits(limits=1):
        return KMeans(n, n_init=_RESTARTS, random_state=random).fit_predict(centres).astype(np.int64)


def _sums(rows: NDArray[np.floating], labels: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Return [n, F], the sum of the rows of each label."""
    which = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(n, len(labels)))
    return np.asarray(which @ rows, dtype=np.float64)
