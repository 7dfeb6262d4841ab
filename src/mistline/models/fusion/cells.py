"""The cells of one or several slides, ready to be read whole or in batches.

`N` cells of all slides, one slide after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from mistline.models.fusion.encoders import normalise_rows
from mistline.models.fusion.graph import Graph, Places, adjacencies, edges_of, table_of, unit_places
from mistline.models.fusion.network import Inputs
from mistline.models.fusion.params import Params
from mistline.models.fusion.preprocess import Scaler
from mistline.models.fusion.sampler import Sampler, draw_batches, patch_order


@dataclass(frozen=True, slots=True)
class Features:
    """What the cells are, beside where they lie.

    Args:
        rows: CSR [N, F] logged values of the kept genes; None where none is read.
        scaler: of the rows.
        embedding: [N, D] of the frozen encoder.
        image: [N, D] float32, or uint8 [N, C, S, S].
    """

    rows: sparse.csr_matrix | None = None
    scaler: Scaler | None = None
    embedding: NDArray[np.float32] | None = None
    image: NDArray[Any] | None = None


class Cells:
    """Features and graphs of all slides.

    Args:
        params: which parts read them.
        places: of each slide.
        features: of all cells.

    Attributes:
        slide: [N] number of each cell's slide.

    Raises:
        InputError: a slide lacks what the graph is built from.
    """

    def __init__(self, params: Params, places: Sequence[Places], features: Features) -> None:
        self._params = params
        self._features = features
        self.slide = np.repeat(np.arange(len(places)), [len(item.xy_um) for item in places])
        self._graphs = adjacencies(places, params.neighbours) if params.graph != "none" else []
        has_table = params.fusion == "cross_attention"
        self._with_self = has_table and not params.official
        xy = unit_places(places, self._graphs[0]) if self._graphs else np.zeros((len(self.slide), 2))
        self._order = patch_order(xy, self.slide) if self._graphs else np.arange(len(self.slide))
        self._xy = xy if self._with_self else None
        self._has_table = has_table
        self._degree = [np.diff(graph.indptr).astype(np.int64) for graph in self._graphs]
        self._sampler = (
            Sampler(self._by_layer(self._graphs), self._graphs[0] if has_table else None) if (self._graphs) else None
        )
        self.is_whole = len(self.slide) < params.full_batch_below
        self._whole: Inputs | None = None

    def __len__(self) -> int:
        return len(self.slide)

    def whole(self, device: str) -> Inputs:
        """Return all cells at once; made at the first call."""
        if self._whole is None:
            everything = np.arange(len(self))
            graph = None
            if self._graphs:
                layers = self._by_layer([edges_of(joined) for joined in self._graphs])
                table = table_of(self._graphs[0], self._xy, self._with_self) if self._has_table else None
                graph = Graph(tuple(layers), table)
            self._whole = self._inputs(everything, graph, device)
        return self._whole

    def training_batches(
        self, seeds: NDArray[np.int64], device: str, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
        """Yield (cells, inputs whose first rows are these cells), every seed once, neighbours drawn."""
        for part in draw_batches(self._order, seeds, self._params.batch_cells, rng):
            yield part, self._batch(part, self._params.fanout, rng, device)

    def batches(self, seeds: NDArray[np.int64], device: str) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
        """Yield the same with all neighbours, in an order of their places."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[seeds] = True
        ordered = self._order[wanted[self._order]]
        for start in range(0, len(ordered), self._params.batch_cells):
            part = ordered[start : start + self._params.batch_cells]
            yield part, self._batch(part, None, None, device)

    def _by_layer(self, found: Sequence[Any]) -> list[Any]:
        return list(found) if len(found) > 1 else list(found) * self._params.graph_layers

    def _batch(
        self, seeds: NDArray[np.int64], fanout: int | None, rng: np.random.Generator | None, device: str
    ) -> Inputs:
        if self._sampler is None:
            return self._inputs(seeds, None, device)
        drawn = self._sampler.draw(seeds, fanout, rng)
        degrees = self._by_layer(self._degree)
        layers = [edges_of(part, degree[drawn.nodes]) for part, degree in zip(drawn.graphs, degrees, strict=True)]
        xy = None if self._xy is None else self._xy[drawn.nodes]
        table = table_of(drawn.table, xy, self._with_self) if self._has_table else None
        return self._inputs(drawn.nodes, Graph(tuple(layers), table), device)

    def _inputs(self, nodes: NDArray[np.int64], graph: Graph | None, device: str) -> Inputs:
        given, genes, target = self._features, None, None
        if given.rows is not None and given.scaler is not None:
            genes = torch.from_numpy(given.scaler.dense(given.rows[nodes], self.slide[nodes])).to(device)
            target = genes if self._params.objective == "reconstruction" else None
            genes = normalise_rows(genes) if self._params.encoder == "mlp" else genes
        return Inputs(
            genes=genes,
            embedding=_tensor(given.embedding, nodes, device),
            image=_tensor(given.image, nodes, device),
            graph=None if graph is None else graph.to(device),
            target=target,
        )


def _tensor(values: NDArray[Any] | None, nodes: NDArray[np.int64], device: str) -> Tensor | None:
    return None if values is None else torch.from_numpy(np.ascontiguousarray(values[nodes])).to(device)
