"""The scales of the dataset: the cell, and any number of square grids over the slide."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mistline.config.base import Section


class Scale(Section):
    """One level of the dataset."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="becomes the shard's and the foreign key's name")
    unit: Literal["cell", "grid"] = Field(
        description="one record a cell, or one a tile of a grid that starts at (0, 0)"
    )
    size_px: int | None = Field(None, ge=16, description="side of a grid's tile in pixels of the full-resolution image")

    @model_validator(mode="after")
    def _size_fits_unit(self) -> Scale:
        if (self.unit == "grid") != (self.size_px is not None):
            raise ValueError("size_px belongs to unit: grid, and only there")
        return self


DEFAULT_SCALES = (
    Scale(name="cell", unit="cell", size_px=None),
    Scale(name="niche", unit="grid", size_px=256),
    Scale(name="region", unit="grid", size_px=1024),
)
