"""Batches of cells with the neighbours that their outputs depend on, drawn from CSR graphs.

Seeds come in patches of neighbours: neighbouring seeds share most of what they depend on, so a batch holds a few
times as many cells as seeds, not the 37 times that three rings of a hexagon have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_PATCH = 64  # cells of a patch
_SIDE = 8.0  # of a patch, in units of the usual distance between neighbours


@dataclass(frozen=True, slots=True)
class Sampled:
    """A part of the graph.

    Args:
        nodes: [m] cells, the seeds first.
        graphs: neighbours [m, m] of each graph layer, in the order of the layers.
        table: neighbours [m, m] that cross-attention reads.
    """

    nodes: NDArray[np.int64]
    graphs: list[sparse.csr_matrix]
    table: sparse.csr_matrix


def patch_order(xy: NDArray[np.float64], slide: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cells so ordered that those of a patch follow each other.

    Args:
        xy: [N, 2] in units of the usual distance between neighbours.
        slide: [N] number of each cell's slide.
    """
    square = np.floor(xy / _SIDE).astype(np.int64)
    return np.lexsort((xy[:, 0], xy[:, 1], square[:, 0], square[:, 1], slide))


def draw_batches(
    order: NDArray[np.int64], seeds: NDArray[np.int64], batch_cells: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield every seed once: patches in random order, several of them a batch."""
    wanted = np.zeros(len(order), dtype=bool)
    wanted[seeds] = True
    ordered = order[wanted[order]]
    patches = [ordered[start : start + _PATCH] for start in range(0, len(ordered), _PATCH)]
    at_once = max(1, batch_cells // _PATCH)
    mixed = rng.permutation(len(patches)).tolist()
    for start in range(0, len(mixed), at_once):
        yield np.concatenate([patches[i] for i in mixed[start : start + at_once]])


class Sampler:
    """Draws what seeds depend on.

    Args:
        layers: neighbours [N, N] of each graph layer, in the order of the layers.
        table: neighbours [N, N] that cross-attention reads; None where there is none.
    """

    def __init__(self, layers: Sequence[sparse.csr_matrix], table: sparse.csr_matrix | None) -> None:
        self._layers = list(layers)
        self._table = table
        self._place = np.full(layers[0].shape[0], -1, dtype=np.int64)

    def draw(self, seeds: NDArray[np.int64], fanout: int | None, rng: np.random.Generator | None) -> Sampled:
        """Return the seeds with the cells they depend on.

        Args:
            seeds: [b] cells, each once.
            fanout: neighbours of a cell that are drawn; None for all.
            rng: of the draw; not needed for all.
        """
        nodes = seeds
        self._place[nodes] = np.arange(len(nodes))
        found = []
        hops = [*([self._table] if self._table is not None else []), *reversed(self._layers)]
        for graph in hops:
            row, sender = _neighbours(graph, nodes, fanout, rng)
            new = np.unique(sender[self._place[sender] < 0])
            self._place[new] = np.arange(len(nodes), len(nodes) + len(new))
            found.append((row, self._place[sender]))
            nodes = np.concatenate([nodes, new])
        self._place[nodes] = -1
        m = len(nodes)
        graphs = [sparse.csr_matrix((np.ones(len(row), bool), (row, sender)), (m, m)) for row, sender in found]
        table = graphs[0]
        return Sampled(nodes, graphs[len(graphs) - len(self._layers) :][::-1], table)


def _neighbours(
    graph: sparse.csr_matrix, nodes: NDArray[np.int64], fanout: int | None, rng: np.random.Generator | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (place in `nodes` of the receiver, cell that sends) of the nodes' edges."""
    start, count = graph.indptr[nodes].astype(np.int64), np.diff(graph.indptr)[nodes].astype(np.int64)
    row = np.repeat(np.arange(len(nodes)), count)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    edge = np.repeat(start, count) + rank
    if fanout is not None and rng is not None and len(row) and count.max() > fanout:
        mixed = np.lexsort((rng.random(len(row)), row))
        kept = np.sort(mixed[rank < fanout])
        row, edge = row[kept], edge[kept]
    return row, graph.indices[edge].astype(np.int64)
