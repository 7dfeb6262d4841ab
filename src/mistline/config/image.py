"""How raw morphology becomes the 8-bit pyramid."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mistline.config.base import Section


class Image(Section):
    """Channels, intensity window and storage of the projected image."""

    channels: tuple[str, ...] = Field(
        ("DAPI",), min_length=1, description="stains to keep, by name; the first is used for display"
    )
    window: Literal["percentile", "minmax"] = Field(
        "percentile", description="minmax gives the published 8-bit scaling"
    )
    low_percentile: float = Field(0.1, ge=0, lt=50, description="maps to 0; measured per slide and channel, recorded")
    high_percentile: float = Field(99.9, gt=50, le=100, description="maps to 255")

    @model_validator(mode="after")
    def _channels_differ(self) -> Image:
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("a channel is named twice")
        return self
