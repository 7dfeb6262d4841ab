"""Squares of tissue that are hidden and filled again: how large, how many, and with how many cells at least."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section

SIDES_UM = {"holes_300": 300.0, "holes_600": 600.0, "holes_900": 900.0}  # protocol -> side


class Holes(Section):
    """Which squares of a slide are hidden."""

    n: int = Field(5, ge=1, description="squares of a slide; fewer where no more fit beside each other")
    least_cells: int = Field(50, ge=2, description="cells in a square, at least")
    scale: float = Field(
        1.0, gt=0, description="factor on the protocol's side, for tissue or units in which it would not fit"
    )

    def side_um(self, protocol: str) -> float:
        """Return the side of a protocol's squares."""
        return SIDES_UM[protocol] * self.scale
