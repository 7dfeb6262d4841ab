"""Which cells enter the dataset."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Cells(Section):
    """Exclusion rules; every excluded cell is counted with its reason."""

    min_counts: int = Field(1, ge=0, description="fewest transcripts of gene features a kept cell has")
    max_excluded_share: float = Field(
        0.05, ge=0, le=1, description="share of cells without polygon, counts or image above which the slide is refused"
    )
