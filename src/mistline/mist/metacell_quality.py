"""How much of expression the meta-cells keep: on training cells, and apart from them on held-out cells.

Nothing is stored a cell: each slide is streamed once and leaves sums a gene and counts a meta-cell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.mist.expression import CountsFile
from mistline.mist.kmeans import group_sums
from mistline.mist.metacells import Assignment, Query, Vocabulary
from mistline.mist.pca import ordered_map

RARE_SHARE = 0.05  # a type with a smaller share of the labelled training cells counts as rare
_MOST_TYPES = 100  # a column with more distinct values is no list of types
_BINS = 20  # of correlations, from 0 to 1
PARTS = ("train", "held_out")


@dataclass(frozen=True, slots=True)
class Judged:
    """One slide to judge on.

    Attributes:
        slide: its name.
        counts: counts.h5ad.
        parts: part -> [n] which of its rows belong to it.
        labels: column -> [n] type of each cell as str, None where unknown.
    """

    slide: str
    counts: Path
    parts: Mapping[str, NDArray[np.bool_]]
    labels: Mapping[str, NDArray[np.object_]]


@dataclass(slots=True)
class _Sums:
    """What the cells of one part leave behind; [T] a gene of the vocabulary, [K] a meta-cell."""

    n: NDArray[np.float64]  # cells that measured the gene
    y: NDArray[np.float64]
    yy: NDArray[np.float64]
    c: NDArray[np.float64]
    cc: NDArray[np.float64]
    yc: NDArray[np.float64]
    per_metacell: NDArray[np.int64]
    n_empty: int = 0
    pca: float = 0.0  # squared length of what the components keep
    scores: float = 0.0  # squared length of the scores
    lost: float = 0.0  # squared distance of the scores to their centres
    types: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=lambda: defaultdict(dict))


@dataclass(frozen=True, slots=True)
class _Block:
    expression: sparse.csr_matrix
    scores: NDArray[np.float32]
    found: Assignment


def judge(vocabulary: Vocabulary, slides: Sequence[Judged], threads: int = 1) -> dict[str, Any]:
    """Measure the vocabulary on every part of the cohort.

    Returns:
        part -> its figures (None for a part without cells), and `genes_missing` by slide.
    """
    sums = {part: _empty(vocabulary) for part in PARTS}
    missing: dict[str, int] = {}
    for slide in slides:
        with CountsFile(slide.counts) as file:
            query = Query(vocabulary, file.gene_ids, slide.slide)
            if query.n_missing:
                missing[slide.slide] = query.n_missing
            _add_slide(sums, slide, file, query, threads)
    known = sums["train"].types
    parts = {name: _figures(vocabulary, of, known) if of.per_metacell.sum() else None for name, of in sums.items()}
    return {**parts, "genes_missing": missing}


def as_types(column: pd.Series) -> NDArray[np.object_] | None:
    """Return a label column's types as str (None where unknown), or None if it holds measurements, not types."""
    known = column[column.notna()]
    numbers = pd.to_numeric(known, errors="coerce")  # labels come as text, measurements among them
    if numbers.notna().all() and not (numbers == numbers.round()).all():
        return None
    if pd.api.types.is_float_dtype(known):
        known = known.astype(np.int64)
    if known.nunique() > _MOST_TYPES:
        return None
    types = np.full(len(column), None, dtype=object)
    types[column.notna().to_numpy()] = known.astype(str).to_numpy(dtype=object)
    return types


def _empty(vocabulary: Vocabulary) -> _Sums:
    k, t = vocabulary.c_expr.shape
    n, y, yy, c, cc, yc = np.zeros((6, t))
    return _Sums(n, y, yy, c, cc, yc, per_metacell=np.zeros(k, dtype=np.int64))


def _add_slide(sums: dict[str, _Sums], slide: Judged, file: CountsFile, query: Query, threads: int) -> None:
    def work(block: sparse.csr_matrix) -> _Block:
        expression = query.normalise(block)
        scores = query.scores(expression)
        return _Block(expression, scores, query.assign(scores))

    basis = query.vocabulary.pca.components[:, query.measured]
    kept = basis @ basis.T
    start = 0
    for block in ordered_map(work, (counts for _, counts in file.blocks()), threads):
        stop = start + len(block.scores)
        for part, total in sums.items():
            rows = np.flatnonzero(slide.parts[part][start:stop])
            if len(rows):
                _add_block(total, block, rows, query, kept)
                _add_types(total, slide.labels, rows + start, block.found.metacell[rows])
        start = stop


def _add_block(total: _Sums, block: _Block, rows: NDArray[np.int64], query: Query, kept: NDArray[np.float64]) -> None:
    """Add the chosen rows of a block to a part's sums."""
    expression, labels = block.expression[rows], block.found.metacell[rows]
    centres = query.vocabulary.c_expr[:, query.measured].astype(np.float64)
    sizes = np.bincount(labels, minlength=len(centres))
    columns = query.measured
    by_metacell = group_sums(expression, labels, len(centres))
    total.n[columns] += len(rows)
    total.y[columns] += by_metacell.sum(axis=0)
    total.yy[columns] += np.asarray(expression.power(2).sum(axis=0, dtype=np.float64)).ravel()
    total.c[columns] += sizes @ centres
    total.cc[columns] += sizes @ centres**2
    total.yc[columns] += (by_metacell * centres).sum(axis=0)
    total.per_metacell += sizes
    total.n_empty += int((np.diff(expression.indptr) == 0).sum())
    scores = block.scores[rows].astype(np.float64)
    total.pca += float(((scores @ kept) * scores).sum())
    total.scores += float((scores**2).sum())
    total.lost += float((block.found.distance[rows].astype(np.float64) ** 2).sum())


def _add_types(
    total: _Sums, labels: Mapping[str, NDArray[np.object_]], rows: NDArray[np.int64], metacells: NDArray[np.int32]
) -> None:
    for column, types in labels.items():
        codes, names = pd.factorize(types[rows])
        for code, name in enumerate(names):
            counts = np.bincount(metacells[codes == code], minlength=len(total.per_metacell))
            total.types[column][name] = counts + total.types[column].get(name, 0)


def _majority(types: Mapping[str, NDArray[np.int64]]) -> list[str | None]:
    """Return [K] the commonest type of each meta-cell, None where it has no labelled cell."""
    names = sorted(types)
    table = np.array([types[name] for name in names])
    return [names[i] if table[i, k] else None for k, i in enumerate(table.argmax(axis=0))]


def _figures(
    vocabulary: Vocabulary, sums: _Sums, train: Mapping[str, Mapping[str, NDArray[np.int64]]]
) -> dict[str, Any]:
    pcc = _pcc(sums)
    mean = vocabulary.pca.mean
    variance = float((sums.yy - 2 * mean * sums.y + sums.n * mean**2).sum())
    residual = float((sums.yy - 2 * sums.yc + sums.cc).sum())
    used = sums.per_metacell
    return {
        "n_cells": int(used.sum()),
        "cells_without_counts": sums.n_empty,
        "gene_pcc": {
            "mean": _number(pcc.mean()) if len(pcc) else None,
            "median": _number(np.median(pcc)) if len(pcc) else None,
            "n_genes": len(pcc),
            "n_constant": len(sums.n) - len(pcc),
            "histogram": _histogram(pcc),
        },
        "variance_kept": {
            "pca": _share(sums.pca, variance),
            "quantised": _share(variance - residual, variance),
            "quantised_in_pca": _share(sums.scores - sums.lost, sums.scores),
        },
        "cells_per_metacell": {"min": int(used.min()), "median": float(np.median(used)), "max": int(used.max())},
        "labels": {
            column: _recovery(sums.types.get(column, {}), types, _majority(types))
            for column, types in sorted(train.items())
        },
    }


def _pcc(sums: _Sums) -> NDArray[np.float64]:
    """Return the correlation of expression and its meta-cell's, a gene; genes without variance are left out."""
    n = np.maximum(sums.n, 1)
    y = sums.yy / n - (sums.y / n) ** 2
    c = sums.cc / n - (sums.c / n) ** 2
    both = sums.yc / n - sums.y * sums.c / n**2
    usable = (y > 1e-12) & (c > 1e-12)
    return np.clip(both[usable] / np.sqrt(y[usable] * c[usable]), -1, 1)


def _histogram(pcc: NDArray[np.float64]) -> dict[str, list[float] | list[int]] | None:
    """Count the genes by their correlation, from the first bin that holds one to the last; None without genes."""
    if not len(pcc):
        return None
    bins = np.minimum(np.floor(pcc * _BINS), _BINS - 1).astype(np.int64)  # a correlation of 1 is in the last one
    low = int(bins.min())
    counts = np.bincount(bins - low).tolist()
    return {"edges": [(low + i) / _BINS for i in range(len(counts) + 1)], "counts": counts}


def _recovery(
    types: Mapping[str, NDArray[np.int64]], train: Mapping[str, NDArray[np.int64]], kinds: Sequence[str | None]
) -> dict[str, Any] | None:
    """Return how well the training majority of each meta-cell names the types of these cells; None without labels."""
    total = sum(int(counts.sum()) for counts in types.values())
    if not total:
        return None
    named = np.array(kinds, dtype=object)
    right = {name: int(counts[named == name].sum()) for name, counts in types.items()}
    recall = {name: right[name] / int(counts.sum()) for name, counts in sorted(types.items())}
    seen = sum(int(counts.sum()) for counts in train.values())
    rare = [name for name in recall if name not in train or train[name].sum() / seen < RARE_SHARE]
    return {
        "n_labelled": total,
        "purity": sum(right.values()) / total,
        "recall": recall,
        "rare": {
            "share_below": RARE_SHARE,
            "types": rare,
            "recall": sum(recall[name] for name in rare) / len(rare) if rare else None,
        },
    }


def _share(part: float, whole: float) -> float | None:
    return _number(part / whole) if whole > 0 else None


def _number(value: float) -> float:
    return round(float(value), 9)  # the last bits of sums are no information
