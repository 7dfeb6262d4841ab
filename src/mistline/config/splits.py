"""How the cohort is divided into training, validation and test."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mistline.config.base import Section


class Splits(Section):
    """By donor; with few donors, by contiguous blocks of tiles with a gap between them.

    Tables without coordinates and with few donors are divided by cell, at random.
    """

    scheme: Literal["auto", "donor", "spatial"] = Field(
        "auto", description="auto: donor from min_donors donors on, else spatial"
    )
    min_donors: int = Field(3, ge=3, description="fewest donors for a split by donor")
    val_share: float = Field(0.1, ge=0, lt=1, description="share of donors (or area) for validation")
    test_share: float = Field(0.1, gt=0, lt=1, description="share of donors (or area) for test")
    block_tiles: int = Field(2, ge=1, description="spatial: side of a block, in tiles of the largest grid scale")
    tile_um: float | None = Field(
        None,
        gt=0,
        description="spatial, tables: side of a tile, and so of the gap; none: three times the median distance to a "
        "cell's sixth neighbour",
    )

    @model_validator(mode="after")
    def _training_remains(self) -> Splits:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share leave nothing to train on")
        return self
