"""Hiding squares of slides and filling them again, slide after slide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.holes import Holes
from mistline.core.errors import InputError
from mistline.graphs.holes import Hole, place_holes
from mistline.infer.fill import Control, Filling, fill
from mistline.models.contract import Needs, Source
from mistline.store.embeddings import Origin
from mistline.store.filled import Filled

_READ_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Cells:
    """All `N` cells of one slide.

    Args:
        slide: name.
        cell_id: [N].
        xy_um: float32 [N, 2].
        content: [N] rows of the model's meta-cells, or [N, T] profiles.
        tested: [N] whether a cell is in the test split.
    """

    slide: str
    cell_id: list[str]
    xy_um: NDArray[np.float32]
    content: NDArray[Any]
    tested: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Slide:
    cells: Cells
    holes: list[Hole]
    filling: Filling
    seconds: float


def read_cells(model: Any, whole: Source, test: Source) -> Cells:
    """Read the cells of one slide.

    Args:
        model: a `fill.Filler` with `cells_of`, a slide's cells as it sees them.
        whole: all cells of the slide.
        test: those of its test split.

    Raises:
        InputError: the model knows nothing of these cells.
    """
    seen = model.cells_of(whole)
    tested = {cell for batch in test.batches(Needs(batch_size=_READ_AT_ONCE)) for cell in batch.record_id}
    own = np.fromiter((cell in tested for cell in seen.cell_id), dtype=bool, count=len(seen.cell_id))
    return Cells(whole.slides[0], list(seen.cell_id), seen.cells.xy_um, seen.cells.content, own)


def fill_slides(
    model: Any,
    slides: Iterable[Callable[[], Cells]],
    protocol: str,
    rule: Holes,
    origin: Origin,
    control: Control | None = None,
) -> Filled:
    """Hide the squares of each slide, all of them together, and fill them.

    Args:
        model: a `fill.Filler` with `genes`, the T ids.
        slides: each opens one slide; one is in memory at a time.
        protocol: which says how large the squares are.
        rule: how many there are.
        origin: of the model.
        control: of the rounds.

    Raises:
        InputError: there is no slide, a slide has no square that fits, or the model gives no answers to be used.
    """
    done = []
    for read in slides:
        cells = read()
        holes = place_holes(cells.cell_id, cells.xy_um, cells.tested, rule.side_um(protocol), rule, cells.slide)
        hidden = np.zeros(len(cells.cell_id), dtype=bool)
        hidden[np.concatenate([hole.rows for hole in holes])] = True
        begun = time.perf_counter()
        filling = fill(model, cells.xy_um, cells.content, hidden, control)
        done.append(_Slide(cells, holes, filling, time.perf_counter() - begun))
    if not done:
        raise InputError("splits", "no slide has a test cell", "look at splits.json")
    return _gathered(model, done, origin, _about(done, protocol, rule, model.window_um, control or Control()))


def _gathered(model: Any, done: list[_Slide], origin: Origin, about: dict[str, Any]) -> Filled:
    columns: dict[str, list[Any]] = {name: [] for name in ("slide", "hole", "cell_id", "metacell")}
    for own in done:
        number = np.full(len(own.cells.cell_id), -1, dtype=np.int16)
        for hole in own.holes:
            number[hole.rows] = hole.number
        rows = own.filling.rows
        columns["slide"].append(np.full(len(rows), own.cells.slide))
        columns["hole"].append(number[rows])
        columns["cell_id"].append(np.array([own.cells.cell_id[row] for row in rows.tolist()]))
        metacell = own.cells.content[rows] if model.is_quantised else np.full(len(rows), -1)
        columns["metacell"].append(metacell.astype(np.int32))
    fillings = [own.filling for own in done]
    return Filled(
        **{name: np.concatenate(parts) for name, parts in columns.items()},
        round=np.concatenate([own.round for own in fillings]),
        way=np.concatenate([own.way for own in fillings]),
        told=np.concatenate([own.told for own in fillings]),
        is_quantised=bool(model.is_quantised),
        genes=tuple(model.genes),
        expression=np.asarray(model.expression, dtype=np.float32),
        origin=origin,
        about=about,
    )


def _about(done: list[_Slide], protocol: str, rule: Holes, window_um: float, control: Control) -> dict[str, Any]:
    n = sum(len(own.filling.rows) for own in done)
    return {
        "protocol": protocol,
        "holes": rule.model_dump(mode="json"),
        "window_um": float(window_um),
        "windows_a_cell": control.n_frontier,
        "least_context": control.least_context,
        "widened_by": list(control.widen),
        "windows": sum(own.filling.windows for own in done),
        "seconds_per_cell": sum(own.seconds for own in done) / n,
    }
