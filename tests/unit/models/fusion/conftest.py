"""Problems of a few hundred spots: layers on hexagonal arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from mistline.models.predictor import Problem, SlideCells
from mistline.spots.toy import LAYERS, ToySpots, toy_spots
from mistline.store.parts import SEEN
from mistline.train.device import cpu_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take longer than the work of these tests."""
    with cpu_threads(1):
        yield


@cache
def spots(side: int, n_genes: int = 200) -> dict[str, ToySpots]:
    return {item.slide: item for item in toy_spots(side, n_genes)}


def slide_cells(item: ToySpots, part: np.ndarray) -> SlideCells:
    ids = [f"{row}x{column}" for row, column in item.array_yx.tolist()]
    label = np.where(np.isin(part, SEEN), item.layer, -1)
    return SlideCells(item.slide, item.donor, ids, item.counts, item.xy_um, item.array_yx, label, part)


def cells_table(items: list[ToySpots]) -> pd.DataFrame:
    parts = []
    for item in items:
        places = {"x_um": item.xy_um[:, 0], "y_um": item.xy_um[:, 1]}
        array = {"array_row": item.array_yx[:, 0], "array_col": item.array_yx[:, 1]}
        about = {"slide": item.slide, "donor": item.donor, "cell_id": np.arange(len(item.layer)).astype(str)}
        parts.append(pd.DataFrame({**about, **places, **array, "label_layer": np.array(LAYERS)[item.layer]}))
    return pd.concat(parts, ignore_index=True)


def problem_of(items: list[ToySpots], fold: pd.DataFrame) -> Problem:
    slides = []
    for item in items:
        own = fold[fold["slide"] == item.slide]
        if len(own):
            part = np.full(len(item.layer), "unlabelled", dtype=object)
            part[own["cell_id"].astype(int)] = own["part"]
            slides.append(slide_cells(item, part))
    return Problem(slides, items[0].genes, "counts", LAYERS)


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Return a problem of so many slides; a tenth of the spots is without label."""

    def make(n_slides: int = 1, side: int = 16, seed: int = 0) -> Problem:
        rng = np.random.default_rng(seed)
        names = np.array(["train", "val", "test", "unlabelled"], dtype=object)
        items = list(spots(side).values())[:n_slides]
        slides = [slide_cells(item, rng.choice(names, len(item.layer), p=[0.5, 0.2, 0.2, 0.1])) for item in items]
        return Problem(slides, items[0].genes, "counts", LAYERS)

    return make


@pytest.fixture
def changed() -> Callable[..., Problem]:
    """Return a problem with changes made to one of its slides."""

    def change(problem: Problem, number: int = 0, **values: object) -> Problem:
        slides = list(problem.slides)
        slides[number] = replace(slides[number], **values)
        return replace(problem, slides=slides)

    return change
