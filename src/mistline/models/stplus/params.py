"""Settings of stPlus. No torch is imported."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mistline.config.base import Section


class Params(Section):
    """Genes of the nearest single cells in the latent of an autoencoder of both sides."""

    hidden: int = Field(256, ge=1, description="width of the layers before and after the latent")
    latent: int = Field(64, ge=1)
    steps: int = Field(1500, ge=1, description="of training, over batches of both sides")
    batch: int = Field(512, ge=2, description="cells of a step, half of either side")
    learning_rate: float = Field(1e-3, gt=0)
    sparsity: float = Field(
        1e-3, ge=0, description="weight of the mean size of what is said of genes that the slide's cells do not have"
    )
    snapshots: int = Field(3, ge=1, description="states of the last half of training whose results are averaged")
    neighbours: int = Field(50, ge=1, description="single cells that a cell borrows from")

    @model_validator(mode="after")
    def _has_states(self) -> Self:
        if self.snapshots > self.steps:
            raise ValueError(f"snapshots: {self.snapshots} states of {self.steps} steps; ask for fewer")
        return self

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge."""
        return frozenset(["genes"])

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["genes"])
