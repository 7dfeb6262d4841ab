"""Settings of SpaGE. No torch is imported."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Params(Section):
    """Genes of the nearest single cells in a space that both sides share."""

    n_components: int = Field(50, ge=1, description="principal components of each side; at most as there are genes")
    min_cosine: float = Field(0.3, ge=0, lt=1, description="of a pair of principal vectors that is kept")
    neighbours: int = Field(50, ge=1, description="single cells that a cell borrows from")

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge."""
        return frozenset(["genes"])

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["genes"])
