"""Filling unseen places of a slide with meta-cells, from the rim inwards (GeST, appendix A.2 and figure A.10).

In each round the unseen cells that lie near enough to seen ones are filled, all together, and count as seen in the
next. A window is centred on a seen cell of the frontier; the seen cells in it are its context, which the model reads
once, and all unseen cells of the round that ask this window are its targets. A cell's probabilities are the mean over
the windows that it asks (equation 11).

The paper leaves open what keeps the first round from filling a hole from one side, and what it costs. Here a cell
asks the windows of its `n_frontier` nearest seen cells that are at most half a window away, so that what lies deeper
waits; a window with too little context tells nothing. Where no cell can be filled, windows are widened for one round;
where that does not help, cells get the shares of the slide's seen meta-cells. Both are told of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mistline.core.errors import InputError
from mistline.store.filled import WAYS

GENERATED, WIDENED, SECTION_MEAN = WAYS

Rows = NDArray[np.int64]
Places = NDArray[np.float64]


class Filler(Protocol):
    """A model that can fill places."""

    window_um: float
    """Side of its windows."""

    expression: NDArray[np.float32]
    """[K, T] of the meta-cells."""

    def probabilities(
        self, seen_xy_um: Places, seen_metacell: NDArray[np.int64], target_xy_um: Places
    ) -> NDArray[np.float32]:
        """Return [n, K] for targets [n, 2] of one window, from its m seen cells; the window's centre is at (0, 0).

        The context is read once, whatever the number of targets, and no target says anything of another.
        """
        ...


@dataclass(frozen=True, slots=True)
class Control:
    """What keeps filling honest and cheap.

    Args:
        n_frontier: windows that a cell asks, at most.
        least_context: seen cells in a window, at least.
        most_context: at most; those nearest to its centre are read. It holds for widened windows above all.
        widen: factors on the window, tried one after the other where no cell can be filled.
    """

    n_frontier: int = 8
    least_context: int = 5
    most_context: int = 2000
    widen: tuple[float, ...] = (2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Filling:
    """The filled cells of one slide.

    Args:
        rows: [n] which cells, rising.
        probabilities: float32 [n, K].
        round: int16 [n], from 1.
        way: [n] of `store.filled.WAYS`.
        windows: how many the model read.
    """

    rows: Rows
    probabilities: NDArray[np.float32]
    round: NDArray[np.int16]
    way: NDArray[np.str_]
    windows: int


@dataclass(slots=True)
class _State:
    """Cells of a slide while it is filled; `metacell` of cells that are not seen is -1, and nothing reads it.

    Args:
        xy: [N, 2].
        metacell: [N].
        seen: [N].
        rounds: [N], 0 for what was seen from the start.
        ways: [N].
        windows: read so far.
    """

    xy: Places
    metacell: NDArray[np.int64]
    seen: NDArray[np.bool_]
    rounds: NDArray[np.int16]
    ways: NDArray[np.object_]
    probabilities: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    windows: int = 0

    def accept(self, rows: Rows, told: NDArray[np.float64], number: int, way: str) -> None:
        """Let unseen cells be seen, as their likeliest meta-cells."""
        self.metacell[rows] = told.argmax(axis=1)
        self.seen[rows] = True
        self.rounds[rows] = number
        self.ways[rows] = way
        self.probabilities.update(zip(rows.tolist(), told, strict=True))


def fill(
    model: Filler,
    xy_um: NDArray[np.floating],
    metacell: NDArray[np.integer],
    hidden: NDArray[np.bool_],
    control: Control | None = None,
) -> Filling:
    """Fill the hidden cells of one slide.

    Args:
        model: what fills.
        xy_um: [N, 2] places of all its cells.
        metacell: [N] their meta-cells; those of hidden cells are not read.
        hidden: [N] whether a cell is to be filled.
        control: of the rounds; None for the usual.

    Raises:
        InputError: no cell is hidden, none is seen, or the model answers with what are no probabilities.
    """
    control = control or Control()
    hidden = np.asarray(hidden, dtype=bool)
    if not hidden.any() or hidden.all():
        what = f"{int(hidden.sum())} of {len(hidden)} cells are hidden, and some must be hidden and some seen"
        raise InputError("holes", what, "choose other holes")
    known = np.where(hidden, -1, metacell).astype(np.int64)
    state = _State(
        np.asarray(xy_um, dtype=np.float64),
        known,
        ~hidden,
        np.zeros(len(hidden), dtype=np.int16),
        np.full(len(hidden), "", dtype=object),
    )
    shares = np.bincount(known[~hidden], minlength=len(model.expression)) / (~hidden).sum()
    number = 0
    while not state.seen.all():
        number += 1
        _fill_round(state, model, control, number, shares)
    rows = np.flatnonzero(hidden)
    told = np.array([state.probabilities[row] for row in rows.tolist()], dtype=np.float32)
    return Filling(rows, told, state.rounds[rows], state.ways[rows].astype(np.str_), state.windows)


def _fill_round(state: _State, model: Filler, control: Control, number: int, shares: NDArray[np.float64]) -> None:
    """Fill at least one cell."""
    for factor in (1.0, *control.widen):
        rows, told = _ask(state, model, control, model.window_um / 2 * factor)
        if len(rows):
            state.accept(rows, told, number, GENERATED if factor == 1 else WIDENED)
            return
    rest = np.flatnonzero(~state.seen)
    state.accept(rest, np.tile(shares, (len(rest), 1)), number, SECTION_MEAN)


def _ask(state: _State, model: Filler, control: Control, half_um: float) -> tuple[Rows, NDArray[np.float64]]:
    """Return the unseen cells that can be filled from windows of a half side, and [n, K] of each."""
    unseen = np.flatnonzero(~state.seen)
    total = np.zeros((len(unseen), len(model.expression)))
    times = np.zeros(len(unseen), dtype=np.int64)
    for centre, context, targets in _windows(state, unseen, control, half_um):
        origin = state.xy[centre]
        places = state.xy[unseen[targets]] - origin
        told = np.asarray(model.probabilities(state.xy[context] - origin, state.metacell[context], places))
        _check(told, (len(targets), total.shape[1]))
        total[targets] += told
        times[targets] += 1
        state.windows += 1
    found = times > 0
    mean = total[found] / times[found, None]
    return unseen[found], mean / mean.sum(axis=1, keepdims=True)


def _windows(state: _State, unseen: Rows, control: Control, half_um: float) -> Iterator[tuple[int, Rows, Rows]]:
    """Yield each window of the frontier: its centre, the seen cells in it, and places in `unseen` of its targets."""
    seen = np.flatnonzero(state.seen)
    tree = cKDTree(state.xy[seen])
    k = min(control.n_frontier, len(seen))
    near = np.asarray(tree.query(state.xy[unseen], k=k, distance_upper_bound=half_um)[1]).reshape(len(unseen), k)
    target, which = np.nonzero(near < len(seen))  # a neighbour that is too far is numbered len(seen)
    centre = near[target, which]
    order = np.lexsort((target, centre))
    target, centre = target[order], centre[order]
    if not len(target):
        return
    starts = np.flatnonzero(np.diff(centre, prepend=-1))
    for first, targets in zip(starts.tolist(), np.split(target, starts[1:]), strict=True):
        own = int(centre[first])
        context = np.sort(np.asarray(tree.query_ball_point(tree.data[own], half_um, p=np.inf), dtype=np.int64))
        if len(context) > control.most_context:
            distance = np.square(tree.data[context] - tree.data[own]).sum(axis=1)
            context = np.sort(context[np.argsort(distance, kind="stable")[: control.most_context]])
        if len(context) >= control.least_context:
            yield int(seen[own]), seen[context], targets


def _check(told: NDArray[np.floating], shape: tuple[int, int]) -> None:
    if told.shape != shape or not np.isfinite(told).all() or (told < 0).any() or not (told.sum(axis=1) > 0).all():
        what = f"it answers {list(told.shape)} with what are no probabilities, asked for {list(shape)}"
        raise InputError("model", what, "train the model again")
