"""Settings of the diffusion model: a size, and what it fills in. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section
from mistline.models.diffusion.modes import MODES

ModeName = Literal["recon", "gene2img", "context2img"]

SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "token_width": 128,
        "train_batch": 64,
        "steps": 10_000,
        "warmup_steps": 200,
        "learning_rate": 3e-4,
        "ema": 0.999,
    },
    "tiny": {
        "token_width": 64,
        "train_batch": 32,
        "steps": 250,
        "warmup_steps": 20,
        "learning_rate": 4e-3,
        "ema": 0.98,
    },
}


class Drawer(Section):
    """What every generator of images has: what tells it what to draw, and how its U-Net is trained."""

    size: Literal["tiny", "small", "paper"] = Field("small", description="of the U-Net; fills in the training")
    condition: str = Field(min_length=1, description="run of spatia whose embeddings tell what to draw")
    autoencoder: str = Field(min_length=1, description="run of vae in whose latents is drawn")
    modes: tuple[ModeName, ...] = Field(
        tuple(MODES), min_length=1, description="ways of asking it is trained for; each record draws one, each time"
    )
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="share of records trained without any condition")
    token_width: int = Field(256, ge=8, description="of the condition's tokens as the U-Net reads them")

    steps: int = Field(25_000, ge=1)
    train_batch: int = Field(256, ge=2, description="cells, or pairs of them, of a training batch of one device")
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
        return {**SIZES.get(str(values.get("size", "small")), {}), **values}

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("modes names one twice")
        return self

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge of it."""
        return frozenset({"images"})

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset({"genes", "image"})


class Params(Drawer):
    """Images of cells from genes and context, drawn in the latent space of an autoencoder."""

    prediction: Literal["v", "epsilon"] = Field(
        "v", description="what the U-Net predicts; with v the last noise level is noise alone"
    )
    n_noise_steps: int = Field(1000, ge=10, description="noise levels")
    beta_start: float = Field(0.00085, gt=0, lt=1)
    beta_end: float = Field(0.012, gt=0, lt=1)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start {self.beta_start} is above beta_end {self.beta_end}")
        return self
