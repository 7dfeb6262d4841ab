"""The scales of the dataset: the cell, and any number of square grids over the slide."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, model_validator

from mistline.config.base import Section, validate
from mistline.core.errors import ConfigError


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


def load_scales(text: str) -> tuple[Scale, ...]:
    """Check the JSON list a stage received through `--scales`.

    Raises:
        ConfigError: not a list, or a scale has an unknown key or a wrong value.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError("scales", f"not valid JSON ({error})", "pass the section as one JSON list") from None
    if not isinstance(values, list):
        raise ConfigError("scales", "not a list", "pass the section as one JSON list")
    return tuple(validate(Scale, value, f"scales.{number}") for number, value in enumerate(values))
