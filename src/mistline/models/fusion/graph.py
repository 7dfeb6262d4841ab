"""The graph of one or several slides as the layers read it, built once.

`N` cells of all slides, `E` directed edges without loops, `K` most neighbours of a cell, `R` numbers that say where a
neighbour lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from mistline.core.errors import InputError
from mistline.graphs import build
from mistline.models.fusion.params import Neighbours

OFFSETS = 5  # cos and sin of the direction and of twice the direction, distance


@dataclass(frozen=True, slots=True)
class Places:
    """Where the cells of one slide lie.

    Args:
        slide: name.
        xy_um: [n, 2].
        array_yx: [n, 2] place on the array; None where the cells lie on none.
    """

    slide: str
    xy_um: NDArray[np.float64]
    array_yx: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Edges:
    """Directed edges, every cell's loop to itself included, sorted by the cell that receives.

    Args:
        index: int64 [2, E + N]: sender, receiver.
        weight: float32 [E + N] of the symmetric-normalised convolution.
    """

    index: Tensor
    weight: Tensor

    def into(self, rows: Tensor | slice, n: int) -> Edges:
        """Return the edges that some of the `n` cells receive."""
        wanted = torch.zeros(n, dtype=torch.bool, device=self.index.device)
        wanted[rows] = True
        kept = wanted[self.index[1]]
        return Edges(self.index[:, kept], self.weight[kept])


@dataclass(frozen=True, slots=True)
class Table:
    """Each cell's neighbours as a padded table; a cell without any has itself.

    Args:
        index: int64 [N, K].
        absent: bool [N, K], the padding.
        offset: float32 [N, K, R]; None where it is not used.
        itself: bool [N, K], the entries that are the cell itself.
    """

    index: Tensor
    absent: Tensor
    offset: Tensor | None
    itself: Tensor

    def of(self, rows: Tensor | slice) -> Table:
        """Return the rows of some cells."""
        offset = None if self.offset is None else self.offset[rows]
        return Table(self.index[rows], self.absent[rows], offset, self.itself[rows])


@dataclass(frozen=True, slots=True)
class Graph:
    """What the layers read.

    Args:
        layers: edges of each graph layer.
        table: neighbours that cross-attention reads; None where there is none.
    """

    layers: tuple[Edges, ...]
    table: Table | None

    def to(self, device: str) -> Graph:
        """Return it on a device."""
        layers = {id(edges): Edges(edges.index.to(device), edges.weight.to(device)) for edges in self.layers}
        table = self.table
        if table is not None:
            offset = None if table.offset is None else table.offset.to(device)
            table = Table(table.index.to(device), table.absent.to(device), offset, table.itself.to(device))
        return Graph(tuple(layers[id(edges)] for edges in self.layers), table)


def adjacency(places: Places, wanted: Neighbours, k: int) -> sparse.csr_matrix:
    """Return one slide's symmetric boolean neighbours [n, n].

    Raises:
        InputError: the slide has no coordinates, or lies on no array although the ring is asked for.
    """
    kind = wanted.kind
    if kind == "auto":
        kind = "nearest" if places.array_yx is None else "hexagonal"
    if kind == "hexagonal":
        if places.array_yx is None:
            what = "its cells lie on no array, and the hexagonal ring is asked for"
            raise InputError(places.slide, what, "choose neighbours: nearest, radius or delaunay")
        return build.hexagonal(places.array_yx)
    if not np.isfinite(places.xy_um).all():
        what = "its cells have no coordinates, and the model joins neighbours"
        raise InputError(places.slide, what, "choose a preset without graph, such as expr_only")
    if kind == "radius":
        return build.radius(places.xy_um, float(wanted.radius_um or 0))
    return build.delaunay(places.xy_um) if kind == "delaunay" else build.nearest(places.xy_um, k)


def adjacencies(slides: Sequence[Places], wanted: Neighbours) -> list[sparse.csr_matrix]:
    """Return the neighbours [N, N] of all slides, slides never joined: one matrix for each number in `k`."""
    found = []
    for k in wanted.k:
        joined = sparse.block_diag([adjacency(places, wanted, k) for places in slides], format="csr", dtype=bool)
        joined.sort_indices()
        found.append(sparse.csr_matrix(joined))
    return found


def edges_of(joined: sparse.csr_matrix, degree: NDArray[np.int64] | None = None) -> Edges:
    """Return the edges of a matrix [N, N] (receiver x sender) with loops.

    Args:
        joined: neighbours, all of them or a sample.
        degree: [N] neighbours in the whole graph, where `joined` is a sample: a cell whose neighbours are drawn
            counts each of them for several. None where it is the whole.
    """
    n = joined.shape[0]
    drawn = np.diff(joined.indptr)
    degree = drawn if degree is None else degree
    receiver = np.concatenate([np.repeat(np.arange(n), drawn), np.arange(n)])
    sender = np.concatenate([joined.indices, np.arange(n)]).astype(np.int64)
    weight = 1 / np.sqrt((degree[receiver] + 1.0) * (degree[sender] + 1.0))
    inner = slice(0, len(joined.indices))
    weight[inner] *= (degree / np.maximum(drawn, 1))[receiver[inner]]
    order = np.lexsort((sender, receiver))
    index = torch.from_numpy(np.stack([sender[order], receiver[order]]))
    return Edges(index, torch.from_numpy(weight[order].astype(np.float32)))


def table_of(joined: sparse.csr_matrix, xy: NDArray[np.float64] | None, with_self: bool) -> Table:
    """Return the padded table of a matrix [N, N].

    Args:
        joined: neighbours.
        xy: [N, 2] places in units of the slide's usual distance between neighbours; None for no offsets.
        with_self: whether every cell is among its own neighbours, or only one without any.
    """
    n = joined.shape[0]
    alone = np.ones(n, dtype=bool) if with_self else np.diff(joined.indptr) == 0
    full = sparse.csr_matrix(joined + sparse.diags(alone.astype(np.int8), format="csr", dtype=bool))
    full.sort_indices()
    count = np.diff(full.indptr)
    row = np.repeat(np.arange(n), count)
    place = np.arange(len(row)) - np.repeat(full.indptr[:-1], count)
    index = np.tile(np.arange(n)[:, None], (1, max(int(count.max(initial=1)), 1)))
    absent = np.ones(index.shape, dtype=bool)
    index[row, place], absent[row, place] = full.indices, False
    itself = (index == np.arange(n)[:, None]) & ~absent
    offset = None if xy is None else torch.from_numpy(offsets(xy[index] - xy[:, None]))
    return Table(torch.from_numpy(index), torch.from_numpy(absent), offset, torch.from_numpy(itself))


def offsets(step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return [..., R]: direction (as angles that wrap) and distance of steps [..., 2]; zeros for no step."""
    distance = np.hypot(step[..., 0], step[..., 1])
    unit = step / np.maximum(distance, 1e-9)[..., None]
    cosine, sine = unit[..., 0], unit[..., 1]
    found = [cosine, sine, cosine**2 - sine**2, 2 * cosine * sine, np.log1p(distance)]
    return np.stack(found, axis=-1).astype(np.float32)


def unit_places(slides: Sequence[Places], joined: sparse.csr_matrix) -> NDArray[np.float64]:
    """Return [N, 2] places in units of each slide's median distance between neighbours; missing places are 0."""
    found, start = [], 0
    for places in slides:
        xy = np.nan_to_num(np.asarray(places.xy_um, dtype=np.float64))
        own = joined[start : start + len(xy), start : start + len(xy)].tocoo()
        length = np.linalg.norm(xy[own.row] - xy[own.col], axis=1)
        found.append(xy / (np.median(length[length > 0]) if (length > 0).any() else 1.0))
        start += len(xy)
    return np.concatenate(found)
