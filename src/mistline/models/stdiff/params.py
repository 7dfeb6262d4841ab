"""Settings of the diffusion over cells. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"depth": 2, "width": 64, "steps": 600, "resamples": 1, "sampling_steps": 10, "validate_every": 50},
    "default": {},
}


class Params(Section):
    """All genes of a cell, learned from single cells; a slide's cell is filled in from the genes that it measured."""

    size: Literal["tiny", "default"] = Field("default", description="of the network; fills in what is below")
    depth: int = Field(3, ge=1, description="blocks")
    width: int = Field(256, ge=8, description="of a block")

    levels: int = Field(1000, ge=2, description="T, noise levels of training")
    largest_snr: float = Field(5.0, gt=0, description="above which a level weighs no more (min-SNR)")
    sampling_steps: int = Field(25, ge=1, description="from noise to a cell")
    resamples: int = Field(2, ge=1, description="times that a step is taken, for the genes to agree")
    samples: int = Field(16, ge=2, description="of a cell: their mean is told, and their spread")
    sample_batch: int = Field(256, ge=1, description="cells drawn at once")
    clip: bool = Field(False, description="whether values below zero are told as zero")

    steps: int = Field(4000, ge=0)
    train_batch: int = Field(256, ge=1, description="single cells of a step")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    val_share: float = Field(0.1, gt=0, lt=1, description="of the single cells, that only stop the training")
    validate_every: int = Field(100, ge=1, description="steps")
    patience: int = Field(5, ge=1, description="validations without a lower loss before training stops")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        return {**SIZES.get(str(values.get("size", "default")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        if self.sampling_steps > self.levels:
            raise ValueError(f"sampling_steps {self.sampling_steps} is above levels {self.levels}")
        return self

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge: genes that a slide did not measure."""
        return frozenset({"genes"})

    def reads(self) -> frozenset[str]:
        """Return what it knows of a slide."""
        return frozenset({"genes"})
