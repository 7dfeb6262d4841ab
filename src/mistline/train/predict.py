"""Training one predictor on one fold, and its predictions of the cells whose labels it was not shown to fit."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from mistline.core.errors import InputError, ResourceError
from mistline.models.contract import Context
from mistline.models.predictor import Problem, SlideCells
from mistline.store.predictions import PREFIX
from mistline.train.run import model_class

logger = logging.getLogger("mistline.train")
_PREDICTED = ("val", "test")


def predict_fold(
    package: str, params: BaseModel, problem: Problem, context: Context
) -> tuple[pd.DataFrame, list[Mapping[str, Any]]]:
    """Train on a fold and predict its validation and test cells.

    Args:
        package: import string of the model.
        params: its settings.
        problem: the fold.
        context: seed, device, threads and resume folder.

    Returns:
        (table with slide, cell_id, part, p_<class>; rows of the course).

    Raises:
        InputError: a cell's embedding is not finite; names the cell.
        ResourceError: a metric is not finite.
    """
    for slide in problem.slides:
        _refuse_non_finite(slide)
    model: Any = model_class(package).create(params, problem, context)
    course = []
    for row in model.fit(problem, context):
        bad = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            what = f"{bad[0]} is not finite"
            raise ResourceError(f"training step {row.get('step')}", what, "lower the learning rate of this model")
        course.append(row)
    if course:
        logger.info("%s", "  ".join(f"{name} {value}" for name, value in course[-1].items()))
    parts = []
    for slide, probability in zip(problem.slides, model.predict(problem, context), strict=True):
        asked = np.flatnonzero(np.isin(slide.part, _PREDICTED))
        ids = np.asarray(slide.cell_id, dtype=object)[asked]
        table = pd.DataFrame({"slide": slide.slide, "cell_id": ids, "part": slide.part[asked]})
        for number, name in enumerate(problem.classes):
            table[f"{PREFIX}{name}"] = np.asarray(probability)[asked, number].astype(np.float32)
        parts.append(table)
    return pd.concat(parts, ignore_index=True), course


def _refuse_non_finite(slide: SlideCells) -> None:
    for run, rows in slide.embeddings.items():
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            cell = slide.cell_id[int(bad.argmax())]
            raise InputError(f"{slide.slide}/{cell}", f"its embedding by {run} is not finite", "mend that model")
