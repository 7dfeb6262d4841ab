"""Settings of the image baseline."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Params(Section):
    """Principal components of standardised image features of the cell's crop."""

    n_components: int = Field(32, ge=1, description="width of the embedding")
    image_size: int = Field(32, ge=16, le=128, multiple_of=16, description="side in pixels the crop is resized to")
    window_um: float = Field(20.0, gt=0, description="side of the view that every cell has at the same scale")
    max_fit_cells: int = Field(200_000, ge=100, description="training cells drawn for the fit")
    batch_size: int = Field(512, ge=1, description="cells read at once; does not change the result")

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["image"])
