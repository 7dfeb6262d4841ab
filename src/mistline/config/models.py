"""A model to train: a name of the registry and its own settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mistline.config.base import Section


class ModelRun(Section):
    """One row of the result tables: a registered model with one choice of settings."""

    model: str = Field(description="name in mistline.models.REGISTRY")
    params: dict[str, Any] = Field(default_factory=dict, description="the model's own settings; checked by its Params")
