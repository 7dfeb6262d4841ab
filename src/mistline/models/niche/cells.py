"""The cells of a problem as a trained gest reads them: places, and meta-cells or profiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.models.gest.model import Model as Gest
from mistline.models.gest.vocabulary import VALUES, Query
from mistline.models.gest.windows import Cells
from mistline.models.predictor import Problem, SlideCells

_BLOCK = 8192  # cells whose genes are made dense at once
_OTHER = "use the run with the dataset it was trained on"


def cells_of(start: Gest, problem: Problem) -> list[Cells]:
    """Return the cells of each slide, in its order.

    Raises:
        InputError: a cell has no place or no meta-cell, or the slides measured other values or too few genes of those
            that the run knows.
    """
    return [Cells(_places(slide), _content(start, problem, slide)) for slide in problem.slides]


def _places(slide: SlideCells) -> NDArray[np.float32]:
    xy_um = np.asarray(slide.xy_um, dtype=np.float32)
    if not np.isfinite(xy_um).all():
        raise InputError(f"slide {slide.slide}", "some of its cells have no place", "leave this slide out")
    return xy_um


def _content(start: Gest, problem: Problem, slide: SlideCells) -> NDArray[Any]:
    """Return int64 [n] meta-cells or float32 [n, T] profiles: the dataset's own, or those the run gives by genes."""
    if start.query is not None:
        return _asked(start, start.query, problem, slide)
    if slide.metacell is None:
        what = "its cells have no meta-cells, and the run was trained with those of a dataset"
        raise InputError(f"slide {slide.slide}", what, _OTHER)
    found, n = np.asarray(slide.metacell, dtype=np.int64), len(start.expression)
    if len(found) and not 0 <= found.min() <= found.max() < n:
        raise InputError(f"slide {slide.slide}", f"a meta-cell of it is none of the run's {n}", _OTHER)
    return found


def _asked(start: Gest, query: Query, problem: Problem, slide: SlideCells) -> NDArray[Any]:
    known = VALUES[int(query.values[0])]
    if problem.values != known:
        raise InputError(f"slide {slide.slide}", f"it holds {problem.values}, the run was trained on {known}", _OTHER)
    place = {gene: number for number, gene in enumerate(problem.genes)}
    columns = np.array([place.get(gene, -1) for gene in start.genes], dtype=np.int64)
    measured = columns >= 0
    if measured.mean() < start.params.min_overlap:
        what = f"the slides share {measured.mean():.0%} of the run's genes, fewer than {start.params.min_overlap:.0%}"
        raise InputError("slides", what, "give slides of one panel, or lower min_overlap of the run")
    tell = query.assign if start.is_quantised else query.profiles
    parts = []
    for low in range(0, slide.counts.shape[0], _BLOCK):
        dense = slide.counts[low : low + _BLOCK].toarray().astype(np.float32)
        genes = np.where(measured, dense[:, columns], 0.0)
        parts.append(tell(genes, np.broadcast_to(measured, genes.shape)))
    return np.concatenate(parts)
