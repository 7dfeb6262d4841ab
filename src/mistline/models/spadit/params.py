"""Settings of the SpaDiT-style model: a size, and what it fills in (specs/spadit.md section 7). Without torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "depth": 2,
        "width": 64,
        "heads": 4,
        "steps": 200,
        "train_batch": 32,
        "learning_rate": 1e-3,
        "validate_every": 25,
    },
    "default": {},
    "paper": {"depth": 16, "width": 512, "heads": 16, "steps": 20_000, "learning_rate": 1e-4, "validate_every": 500},
}


class Params(Section):
    """A gene over the cells of a slide, from what single cells say of it and from measured genes that are like it."""

    size: Literal["tiny", "default", "paper"] = Field("default", description="of the network; fills in what is below")
    depth: int = Field(6, ge=1, description="blocks")
    width: int = Field(256, ge=8, description="of a token")
    heads: int = Field(8, ge=1)
    patches: int = Field(16, ge=1, description="P, tokens that a gene's variable is cut into, and its profile")

    space: Literal["pca", "raw"] = Field(
        "pca", description="what is diffused: components of training genes, or a gene at every cell"
    )
    n_components: int = Field(128, ge=1, description="p, at most one less than training genes")
    base: Literal["estimate", "mean"] = Field(
        "estimate",
        description="what the diffused variable is the rest of: an estimate from neighbours, regression and transfer, "
        "or the mean of the training genes",
    )
    n_metacells: int = Field(128, ge=2, description="M, groups of single cells that a gene's profile is told over")
    neighbours: int = Field(8, ge=1, description="K, training genes most like a gene in the reference, that it is told")
    mask_share: float = Field(0.3, ge=0, lt=1, description="of their patches that training hides")
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="share of training genes that are told nothing")

    levels: int = Field(1000, ge=2, description="T, noise levels of training")
    largest_snr: float = Field(5.0, gt=0, description="above which a level weighs no more (min-SNR)")
    sampling_steps: int = Field(10, ge=1, description="of DDIM; more told no more of any pair that was tried")
    samples: int = Field(16, ge=2, multiple_of=2, description="of a gene: their mean is told, and their spread")
    guidance: float = Field(1.0, ge=0, description="w; 1 is the condition as it was trained")
    sample_batch: int = Field(16, ge=1, description="genes drawn at once")
    clip: bool = Field(False, description="whether values below zero are told as zero")

    steps: int = Field(2000, ge=0)
    train_batch: int = Field(64, ge=1, description="genes of a step")
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    validate_every: int = Field(50, ge=1, description="steps")
    patience: int = Field(5, ge=1, description="validations without a lower loss before training stops")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        return {**SIZES.get(str(values.get("size", "default")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        if self.sampling_steps > self.levels:
            raise ValueError(f"sampling_steps {self.sampling_steps} is above levels {self.levels}")
        return self

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge: genes that a slide did not measure."""
        return frozenset({"genes"})

    def reads(self) -> frozenset[str]:
        """Return what it knows of a slide."""
        return frozenset({"genes"})
