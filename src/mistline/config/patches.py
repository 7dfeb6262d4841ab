"""The image patch of each spot or cell of a slide that is given as a table."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Patches(Section):
    """A square around every place, cut out of the slide's `image`."""

    side_um: float = Field(112.0, gt=0, description="side of the square; 112 um at 224 px is 0.5 um a pixel")
    size_px: int = Field(224, ge=8, le=2048, description="side in pixels that the square is resized to and stored at")
