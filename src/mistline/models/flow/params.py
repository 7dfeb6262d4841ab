"""Settings of the flow: how cells are paired, and how it is trained. No torch is imported."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mistline.models.diffusion.params import Drawer
from mistline.models.flow.pairs import Transport


class Params(Drawer):
    """From the image of a cell to that of a matched cell of another state, in the latents of an autoencoder."""

    label: str = Field(min_length=1, description="column of the slides' labels that holds the states")
    transitions: tuple[tuple[str, str], ...] = Field(
        min_length=1, description="values of that column: [control, target] of each transition"
    )
    niche: str = Field(
        "niche", description="scale whose tile, or column of labels whose value, two cells of a pair share"
    )
    max_cells: int = Field(500, ge=2, description="cells of one state of a niche; more are drawn")
    min_cells: int = Field(2, ge=1, description="cells of either state, below which a niche gives no pair")
    epsilon: float = Field(0.05, gt=0, description="of optimal transport, a share of the median cost")
    iterations: int = Field(200, ge=1, description="of Sinkhorn's algorithm")
    targets: int = Field(1, ge=1, description="likeliest targets of a control cell that become pairs")
    alpha: float = Field(1.0, ge=0, description="power of a pair's confidence that weighs its loss")

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        for control, target in self.transitions:
            if control == target:
                raise ValueError(f"a transition leads from {control} to itself")
        if len(set(self.transitions)) < len(self.transitions):
            raise ValueError("transitions names one twice")
        if self.min_cells > self.max_cells:
            raise ValueError(f"min_cells {self.min_cells} is above max_cells {self.max_cells}")
        return self

    def transport(self) -> Transport:
        """Return how the cells of a niche are matched."""
        return Transport(self.max_cells, self.min_cells, self.epsilon, self.iterations, self.targets)
