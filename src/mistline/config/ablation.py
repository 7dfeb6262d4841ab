"""An ablation: rows of a task's tables in an order, each compared with another."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mistline.config.base import Section


class Ablation(Section):
    """Which rows differ by one part, and from which."""

    steps: tuple[str, ...] = Field(
        min_length=2, description="names under `models`, each compared with the one before it"
    )
    variants: tuple[str, ...] = Field((), description="names under `models`, each compared with the last of `steps`")
    metrics: tuple[str, ...] = Field((), description="to show; empty: the table's first ones")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = self.names
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"named more than once: {', '.join(doubled)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All rows, in the order they are shown."""
        return (*self.steps, *self.variants)

    def pairs(self) -> list[tuple[str, str | None]]:
        """Return each row with the one it is compared with; None for the first."""
        before = [None, *self.steps[:-1], *[self.steps[-1]] * len(self.variants)]
        return list(zip(self.names, before, strict=True))
