"""A task to evaluate: a name of the registry, its protocols and its own settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mistline.config.ablation import Ablation
from mistline.config.base import Section


class TaskRun(Section):
    """One table of the report."""

    protocols: tuple[str, ...] = Field(min_length=1, description="ways of judging; each is a table of its own")
    models: tuple[str, ...] = Field(
        (), description="names under `models` to judge; empty means all that can serve the task"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="the task's own settings; checked by its Params")
    ablation: Ablation | None = Field(None, description="rows that differ by one part, for a table of their own")
