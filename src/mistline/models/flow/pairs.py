"""Which control cell goes with which cell of the target state: optimal transport between the two sides of a group.

Within one split and one group of a slide (a tile, or the cells of one label), the cells of the control state are
matched to those of the target state by entropic optimal transport (Cuturi 2013, arXiv 1306.0895; solved in the log
domain by POT) on Euclidean distances between expression scores. No torch is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mistline.core.seeds import ranked

PAIRED_SPLITS = ("train", "val", "test")  # cells of the gap between them belong to no side

Scores = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Transport:
    """How two sides are matched.

    Args:
        max_cells: of a side; more are drawn by seed.
        min_cells: of a side, below which a group gives no pair: one cell has no choice, and would be sure of it.
        epsilon: entropic regularisation, as a share of the median cost.
        iterations: of Sinkhorn's algorithm.
        targets: entries of the plan that are kept of each control cell, the largest first.
    """

    max_cells: int = 500
    min_cells: int = 2
    epsilon: float = 0.05
    iterations: int = 200
    targets: int = 1


@dataclass(frozen=True, slots=True)
class Sides:
    """Cells of one slide, split and group that a transition is sought between.

    Args:
        transition: `control -> target`.
        split: that all cells are of.
        group: that all cells are of.
        control: [m] rows of the cells' table.
        target: [k] rows of the cells' table.
    """

    transition: str
    split: str
    group: str
    control: NDArray[np.int64]
    target: NDArray[np.int64]


def sides_of(
    cells: pd.DataFrame, transitions: Sequence[tuple[str, str]], how: Transport, seed: int, slide: str
) -> Iterator[Sides]:
    """Yield the two sides of every group that has enough cells of both.

    Args:
        cells: of the slide: cell_id, split, state, group; None where unknown.
        transitions: values of `state`, from and to.
        how: sizes of the sides.
        seed: of the draw.
        slide: name, part of the draw.
    """
    known = cells["split"].isin(PAIRED_SPLITS) & cells["group"].notna()
    ids = cells["cell_id"].to_numpy(dtype=object)
    for control, target in transitions:
        name = f"{control} -> {target}"
        of_both = cells[known & cells["state"].isin((control, target))]
        for (split, group), rows in of_both.groupby(["split", "group"], sort=True).indices.items():
            places = of_both.index.to_numpy()[rows]
            is_control = (of_both["state"].to_numpy()[rows] == control).astype(bool)
            parts = (places[is_control], places[~is_control])
            if min(map(len, parts)) < how.min_cells:
                continue
            names = ("pair_cells", slide, name, split, str(group))
            drawn = [_drawn(part, ids, how.max_cells, seed, names) for part in parts]
            yield Sides(name, str(split), str(group), *drawn)


def pair(cells: pd.DataFrame, sides: Sequence[Sides], scores: Scores, how: Transport) -> pd.DataFrame:
    """Match the sides.

    Args:
        cells: of the slide, with cell_id.
        sides: what `sides_of` gave.
        scores: rows [n] -> float32 [n, p] expression scores.
        how: to match.

    Returns:
        A row a pair: split, transition, group, control_id, target_id, confidence.
    """
    ids = cells["cell_id"].to_numpy(dtype=object)
    needed = np.unique(np.concatenate([np.concatenate([item.control, item.target]) for item in sides] or [_NO_ROW]))
    found = scores(needed) if len(needed) else np.zeros((0, 1), dtype=np.float32)
    tables = [_table(np.zeros((0, 5), dtype=object), np.zeros(0))]
    for item in sides:
        one, other = np.searchsorted(needed, item.control), np.searchsorted(needed, item.target)
        at, share = match(found[one], found[other], how)
        n = at.shape[1]
        told = np.empty((len(item.control) * n, 5), dtype=object)
        told[:, :3] = (item.split, item.transition, item.group)
        told[:, 3], told[:, 4] = np.repeat(ids[item.control], n), ids[item.target][at.ravel()]
        tables.append(_table(told, share.ravel()))
    return pd.concat(tables, ignore_index=True)


def match(
    control: NDArray[np.floating], target: NDArray[np.floating], how: Transport
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return, of each control cell, its likeliest targets and their shares of its mass in the plan.

    The first share is the confidence: the row's maximum over the row's sum. Where the control side is the smaller
    one, each of its cells has to spread over several targets, so that it can be sure of none.

    Args:
        control: [m, p] scores.
        target: [k, p] scores.
        how: to match.

    Returns:
        int64 [m, t] rows of `target`, and float64 [m, t], falling along a row; t is the lesser of `how.targets` and k.
    """
    plan = _plan(cdist(control.astype(np.float64), target.astype(np.float64)), how)
    share = plan / plan.sum(axis=1, keepdims=True)
    at = np.argsort(-share, axis=1, kind="stable")[:, : how.targets]
    return at, np.take_along_axis(share, at, axis=1)


_NO_ROW = np.zeros(0, dtype=np.int64)
_TOLD = ("split", "transition", "group", "control_id", "target_id")


def _drawn(
    rows: NDArray[np.int64], ids: NDArray[np.object_], limit: int, seed: int, names: tuple[str, ...]
) -> NDArray[np.int64]:
    if len(rows) <= limit:
        return rows
    return np.sort(rows[ranked(ids[rows].tolist(), seed, *names)[:limit]])


def _plan(cost: NDArray[np.float64], how: Transport) -> NDArray[np.float64]:
    """Return the plan [m, k] between equal masses; the cost is taken in units of its median."""
    m, k = cost.shape
    unit = float(np.median(cost)) or float(cost.mean())
    if unit == 0:
        return np.full((m, k), 1 / (m * k))
    for name in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):  # POT would import what of these there is: seconds
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    from ot.bregman import sinkhorn_log  # codespell:ignore ot

    masses = np.full(m, 1 / m), np.full(k, 1 / k)
    plan: NDArray[np.float64] = sinkhorn_log(*masses, cost / unit, how.epsilon, numItermax=how.iterations, warn=False)
    return plan


def _table(told: NDArray[np.object_], confidence: NDArray[np.float64]) -> pd.DataFrame:
    """Return the pairs that have a share at all: the lesser entries of a plan may underflow."""
    columns = {name: told[:, number] for number, name in enumerate(_TOLD)}
    table = pd.DataFrame({**columns, "confidence": confidence.astype(np.float32)})
    return table[table["confidence"] > 0]
