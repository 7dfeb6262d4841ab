"""Training one registered model on one dataset."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from mistline.core.errors import ResourceError
from mistline.models.contract import Context, Embedder, Source
from mistline.train import loop

logger = logging.getLogger("mistline.train")


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and the rows of metrics.jsonl."""

    model: Embedder
    metrics: tuple[Mapping[str, Any], ...]


def model_class(package: str) -> Any:
    """Import `Model` of a registered package, such as `mistline.models.pca`."""
    return importlib.import_module(f"{package}.model").Model


def is_trainable(package: str) -> bool:
    """Return whether a registered model is trained by `train.loop`, and so on several devices."""
    return hasattr(model_class(package), "recipe")


def train(package: str, params: BaseModel, train_part: Source, val_part: Source, context: Context) -> Trained:
    """Create a model and fit it, by `train.loop` or by its own `fit`.

    Args:
        package: import string of the model.
        params: its settings.
        train_part: training records; nothing else may be fitted on.
        val_part: validation records, for choosing when to stop.
        context: seed, device, threads and resume folder.

    Raises:
        ResourceError: a metric is not finite.
    """
    model = model_class(package).create(params, train_part, context)
    rows = []
    fit = partial(loop.fit, model) if hasattr(model, "recipe") else model.fit
    for row in fit(train_part, val_part, context):
        bad = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise ResourceError(
                f"training step {row.get('step')}", f"{bad[0]} is not finite", "lower the learning rate of this model"
            )
        logger.info("%s", "  ".join(f"{name} {value}" for name, value in row.items()))
        rows.append(row)
    return Trained(model, tuple(rows))
