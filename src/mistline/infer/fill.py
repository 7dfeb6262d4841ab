"""Filling unseen places of a slide with cells, from the rim inwards (GeST, appendix A.2 and figure A.10).

In each round the unseen cells that lie near enough to seen ones are filled, all together, and count as seen in the
next. A window is centred on a seen cell of the frontier; the seen cells in it are its context, which the model reads
once, and all unseen cells of the round that ask this window are its targets. What is told of a cell, probabilities of
meta-cells or a profile, is the mean over the windows that it asks (equation 11).

The paper leaves open what keeps the first round from filling a hole from one side, and what it costs. Here a cell
asks the windows of its `n_frontier` nearest seen cells that are at most half a window away, so that what lies deeper
waits; a window with too little context tells nothing. Where no cell can be filled, windows are widened for one round;
where that does not help, cells get the mean of the slide's seen cells. Both are told of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mistline.core.errors import InputError
from mistline.store.told import WAYS

GENERATED, WIDENED, SECTION_MEAN = WAYS

Rows = NDArray[np.int64]
Places = NDArray[np.float64]


class Filler(Protocol):
    """A model that can fill places; what is known of a cell, its content, is [n] or [n, T]."""

    window_um: float
    """Side of its windows."""

    expression: NDArray[np.float32]
    """[W, T], of whose rows what is told of a place are weights: of the W meta-cells, or 1 on the diagonal."""

    is_quantised: bool
    """Whether content is meta-cells, and probabilities of these are told; else both are profiles."""

    def tell(self, seen_xy_um: Places, seen: NDArray[Any], target_xy_um: Places) -> NDArray[np.float32]:
        """Return [n, W] for targets [n, 2] of one window, from its m seen cells; the window's centre is at (0, 0).

        The context is read once, whatever the number of targets, and no target says anything of another.
        """
        ...

    def entered(self, told: NDArray[np.floating]) -> NDArray[Any]:
        """Return the content that cells are seen with of which [n, W] was told."""
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
        told: float32 [n, W].
        round: int16 [n], from 1.
        way: [n] of `store.told.WAYS`.
        windows: how many the model read.
    """

    rows: Rows
    told: NDArray[np.float32]
    round: NDArray[np.int16]
    way: NDArray[np.str_]
    windows: int


@dataclass(slots=True)
class _State:
    """Cells of a slide while it is filled; nothing reads the content of cells that are not seen.

    Args:
        model: that fills.
        xy: [N, 2].
        content: [N] or [N, T].
        seen: [N].
        rounds: [N], 0 for what was seen from the start.
        ways: [N].
        told: row -> [W], of filled cells.
        windows: read so far.
    """

    model: Filler
    xy: Places
    content: NDArray[Any]
    seen: NDArray[np.bool_]
    rounds: NDArray[np.int16]
    ways: NDArray[np.object_]
    told: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    windows: int = 0

    def accept(self, rows: Rows, told: NDArray[np.float64], number: int, way: str) -> None:
        """Let unseen cells be seen."""
        self.content[rows] = self.model.entered(told)
        self.seen[rows] = True
        self.rounds[rows] = number
        self.ways[rows] = way
        self.told.update(zip(rows.tolist(), told, strict=True))


def fill(
    model: Filler,
    xy_um: NDArray[np.floating],
    content: NDArray[Any],
    hidden: NDArray[np.bool_],
    control: Control | None = None,
) -> Filling:
    """Fill the hidden cells of one slide.

    Args:
        model: what fills.
        xy_um: [N, 2] places of all its cells.
        content: [N] or [N, T] of them; that of hidden cells is not read.
        hidden: [N] whether a cell is to be filled.
        control: of the rounds; None for the usual.

    Raises:
        InputError: no cell is hidden, none is seen, or the model answers with what is not to be used.
    """
    control = control or Control()
    hidden = np.asarray(hidden, dtype=bool)
    if not hidden.any() or hidden.all():
        what = f"{int(hidden.sum())} of {len(hidden)} cells are hidden, and some must be hidden and some seen"
        raise InputError("holes", what, "choose other holes")
    known = np.array(content)
    known[hidden] = -1
    state = _State(
        model,
        np.asarray(xy_um, dtype=np.float64),
        known,
        ~hidden,
        np.zeros(len(hidden), dtype=np.int16),
        np.full(len(hidden), "", dtype=object),
    )
    mean = _mean(model, known[~hidden])
    number = 0
    while not state.seen.all():
        number += 1
        _fill_round(state, control, number, mean)
    rows = np.flatnonzero(hidden)
    told = np.array([state.told[row] for row in rows.tolist()], dtype=np.float32)
    return Filling(rows, told, state.rounds[rows], state.ways[rows].astype(np.str_), state.windows)


def _mean(model: Filler, seen: NDArray[Any]) -> NDArray[np.float64]:
    """Return [W], what is told of the mean seen cell."""
    if not model.is_quantised:
        return np.asarray(seen.mean(axis=0), dtype=np.float64)
    return np.bincount(seen, minlength=len(model.expression)) / len(seen)


def _fill_round(state: _State, control: Control, number: int, mean: NDArray[np.float64]) -> None:
    """Fill at least one cell."""
    for factor in (1.0, *control.widen):
        rows, told = _ask(state, control, state.model.window_um / 2 * factor)
        if len(rows):
            state.accept(rows, told, number, GENERATED if factor == 1 else WIDENED)
            return
    rest = np.flatnonzero(~state.seen)
    state.accept(rest, np.tile(mean, (len(rest), 1)), number, SECTION_MEAN)


def _ask(state: _State, control: Control, half_um: float) -> tuple[Rows, NDArray[np.float64]]:
    """Return the unseen cells that can be filled from windows of a half side, and [n, W] of each."""
    model, unseen = state.model, np.flatnonzero(~state.seen)
    total = np.zeros((len(unseen), len(model.expression)))
    times = np.zeros(len(unseen), dtype=np.int64)
    for centre, context, targets in _windows(state, unseen, control, half_um):
        origin = state.xy[centre]
        places = state.xy[unseen[targets]] - origin
        told = np.asarray(model.tell(state.xy[context] - origin, state.content[context], places))
        _check(told, (len(targets), total.shape[1]), model.is_quantised)
        total[targets] += told
        times[targets] += 1
        state.windows += 1
    found = times > 0
    return unseen[found], total[found] / times[found, None]


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


def _check(told: NDArray[np.floating], shape: tuple[int, int], is_quantised: bool) -> None:
    is_right = told.shape == shape and bool(np.isfinite(told).all())
    if is_right and is_quantised:
        is_right = bool((told >= 0).all() and np.allclose(told.sum(axis=1), 1, atol=1e-3))
    if not is_right:
        kind = "probabilities" if is_quantised else "profiles"
        what = f"it answers {list(told.shape)} that are no {kind}, asked for {list(shape)}"
        raise InputError("model", what, "train the model again")
