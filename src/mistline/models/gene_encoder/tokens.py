"""Cells as sequences of tokens, the same for the same cell whatever lies beside it.

`B` cells, `M` genes that the encoder knows, `L` tokens of the longest cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.models.gene_encoder.vocabulary import Vocabulary

_DEPTH = 10_000  # counts a cell is brought to before its shares are compared with the usual ones
_EDGES = 50  # of scGPT's 51 bins; bin 0 is that of genes without a count
_CLS_VALUE = -2.0  # what scGPT gives padding and the token of the whole cell in place of a bin


@dataclass(frozen=True, slots=True)
class Tokens:
    """Cells of a batch.

    Args:
        token: [B, L] int64.
        value: [B, L] float32, bins of counts; zeros where the encoder reads ranks alone.
        gene: [B, L] bool, tokens of genes.
        used: [B, L] bool, all but padding.
    """

    token: NDArray[np.int64]
    value: NDArray[np.float32]
    gene: NDArray[np.bool_]
    used: NDArray[np.bool_]


Cell = tuple[NDArray[np.int64], NDArray[np.float32]]


def by_rank(counts: NDArray[np.float64], depth: NDArray[np.float64], vocabulary: Vocabulary, length: int) -> Tokens:
    """Return Geneformer's reading (Theodoris et al. 2023): expressed genes, those most above their usual first.

    Args:
        counts: [B, M].
        depth: [B] counts of all measured genes.
        vocabulary: of the M genes.
        length: tokens of a cell at most; the last genes of a longer one are left out.
    """
    _, whole, end = vocabulary.special
    share = counts / np.maximum(depth, 1e-12)[:, None] * _DEPTH / vocabulary.median
    cells: list[Cell] = []
    for row in share:
        order = np.argsort(-row, kind="stable")[: np.count_nonzero(row)]
        kept = vocabulary.token[order[: length - (whole >= 0) - (end >= 0)]]
        cells.append((kept, np.zeros(len(kept), dtype=np.float32)))
    return _padded(cells, vocabulary, 0.0)


def by_bin(
    counts: NDArray[np.float64], names: Sequence[tuple[str, str]], seed: int, vocabulary: Vocabulary, length: int
) -> Tokens:
    """Return scGPT's reading (Cui et al. 2024): expressed genes with the bin of their count among the cell's own.

    Where its authors draw, this does not: a tied count takes the middle of the bins it covers, and of a cell with
    more genes than tokens the same ones are left out every time.

    Args:
        counts: [B, M].
        names: [B] slide and cell.
        seed: of what is left out.
        vocabulary: of the M genes.
        length: tokens of a cell at most.
    """
    cells: list[Cell] = []
    for row, name in zip(counts, names, strict=True):
        expressed = np.flatnonzero(row)
        value = bins(row[expressed])
        if len(expressed) > length - 1:
            kept = np.sort(generator(seed, "gene_encoder", *name).permutation(len(expressed))[: length - 1])
            expressed, value = expressed[kept], value[kept]
        cells.append((vocabulary.token[expressed], value))
    return _padded(cells, vocabulary, _CLS_VALUE)


def bins(value: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return [n] bins 1..50 of a cell's positive counts between its own quantiles."""
    if not len(value):
        return np.zeros(0, dtype=np.float32)
    edges = np.quantile(value, np.linspace(0, 1, _EDGES))
    low, high = np.digitize(value, edges, right=True), np.digitize(value, edges)
    return ((low + high + 1) // 2).astype(np.float32)


def _padded(cells: Sequence[Cell], vocabulary: Vocabulary, special_value: float) -> Tokens:
    """Put the token of the whole cell before each cell, that of its end behind it, and pad to the longest."""
    pad, whole, end = vocabulary.special
    first, last = int(whole >= 0), int(end >= 0)
    width = max(max(len(token) for token, _ in cells) + first + last, 1)
    shape = (len(cells), width)
    tokens = Tokens(
        np.full(shape, pad, dtype=np.int64),
        np.full(shape, special_value, dtype=np.float32),
        np.zeros(shape, dtype=bool),
        np.zeros(shape, dtype=bool),
    )
    for row, (token, value) in enumerate(cells):
        stop = first + len(token)
        tokens.token[row, first:stop], tokens.value[row, first:stop] = token, value
        tokens.gene[row, first:stop] = True
        tokens.used[row, : max(stop + last, 1)] = True  # attention needs something to look at
        if first:
            tokens.token[row, 0] = whole
        if last:
            tokens.token[row, stop] = end
    return tokens
