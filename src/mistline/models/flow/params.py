"""Settings of the flow: how cells are paired, and how it is trained. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section
from mistline.models.diffusion.modes import MODES
from mistline.models.diffusion.params import SIZES, ModeName
from mistline.models.flow.pairs import Transport


class Params(Section):
    """From the image of a cell to that of a matched cell of another state, in the latents of an autoencoder."""

    size: Literal["tiny", "small", "paper"] = Field("small", description="of the U-Net; fills in the training")
    condition: str = Field(min_length=1, description="run of spatia whose embeddings tell what to draw")
    autoencoder: str = Field(min_length=1, description="run of vae in whose latents is drawn")

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

    modes: tuple[ModeName, ...] = Field(
        tuple(MODES), min_length=1, description="ways of asking it is trained for; each pair draws one, each time"
    )
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="share of pairs trained without any condition")
    token_width: int = Field(256, ge=8, description="of the condition's tokens as the U-Net reads them")

    steps: int = Field(25_000, ge=1)
    train_batch: int = Field(256, ge=2, description="pairs of a training batch of one device")
    accumulate: int = Field(1, ge=1, description="batches of a step")
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(500, ge=0)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the average of the weights that draws images")
    validate_every: int = Field(1000, ge=1, description="steps")
    val_batches: int | None = Field(10, ge=1)
    save_every: int = Field(500, ge=1, description="steps between two saved states")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**SIZES.get(values.get("size", "small"), {}), **values}

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        for control, target in self.transitions:
            if control == target:
                raise ValueError(f"a transition leads from {control} to itself")
        if len(set(self.transitions)) < len(self.transitions):
            raise ValueError("transitions names one twice")
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("modes names one twice")
        if self.min_cells > self.max_cells:
            raise ValueError(f"min_cells {self.min_cells} is above max_cells {self.max_cells}")
        return self

    def transport(self) -> Transport:
        """Return how the cells of a niche are matched."""
        return Transport(self.max_cells, self.min_cells, self.epsilon, self.iterations, self.targets)

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge of it."""
        return frozenset({"images"})

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset({"genes", "image"})
