"""What the report shows."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Report(Section):
    """Title and amount of pictures."""

    title: str = Field("MIST dataset report", description="heading of the page")
    crops_per_slide: int = Field(12, ge=1, le=64, description="cells on a slide's crop sheet")
