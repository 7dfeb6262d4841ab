"""Settings of the PCA baseline."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Params(Section):
    """Principal components of log-normalised counts."""

    n_components: int = Field(50, ge=1, description="width of the embedding")
    max_fit_cells: int = Field(500_000, ge=100, description="training cells drawn for the fit")
    batch_size: int = Field(2048, ge=1, description="cells read at once; does not change the result")
