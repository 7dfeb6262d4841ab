"""How a cell's crop is cut and stored."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Crops(Section):
    """The square around a cell's polygon, at native resolution."""

    context: float = Field(
        1.0, ge=1.0, le=16.0, description="factor on the square's side; 1 is the smallest square that holds the polygon"
    )
    min_side_px: int = Field(8, ge=2, description="smallest side of a crop")
