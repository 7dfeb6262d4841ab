"""Settings of the autoencoder: a size and what it fills in, or a published one by its files. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "image_size": 32,
        "widths": (16, 16, 32),
        "layers": 1,
        "norm_groups": 8,
        "attention": False,
        "steps": 300,
        "train_batch": 16,
        "learning_rate": 6e-3,
        "warmup_steps": 10,
    },
    "paper": {
        "image_size": 256,
        "widths": (128, 256, 512, 512),
        "layers": 2,
        "norm_groups": 32,
        "attention": True,
        "steps": 50_000,
        "train_batch": 32,
        "learning_rate": 1e-4,
        "warmup_steps": 500,
    },
}


class Params(Section):
    """An autoencoder of images, trained on the dataset or published: latents for generators."""

    size: Literal["tiny", "paper"] = Field("paper", description="fills in the widths and the training")
    image_size: int = Field(256, ge=8, description="side in pixels that images are resized to")
    widths: tuple[int, ...] = Field(
        (128, 256, 512, 512), min_length=2, description="channels by resolution, finest first; each halves the side"
    )
    layers: int = Field(2, ge=1, description="residual blocks of a resolution")
    norm_groups: int = Field(32, ge=1, description="groups of a normalisation")
    attention: bool = Field(True, description="attention at the coarsest resolution")
    latent_channels: int = Field(4, ge=1)
    kl_weight: float = Field(1e-5, ge=0, description="of the KL divergence, a pixel, beside the mean absolute error")
    steps: int = Field(50_000, ge=1)
    train_batch: int = Field(32, ge=2, description="cells of a training batch of one device")
    learning_rate: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(500, ge=0)
    clip: float = Field(1.0, gt=0)
    validate_every: int = Field(500, ge=1, description="steps")
    val_batches: int | None = Field(20, ge=1)
    save_every: int = Field(200, ge=1, description="steps between two saved states")
    weights: str | None = Field(
        None, min_length=1, description="an AutoencoderKL of diffusers (safetensors) on disk: nothing is trained"
    )
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file")
    weights_config: str | None = Field(None, min_length=1, description="its config.json")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**SIZES.get(str(values.get("size", "paper")), {}), **values}

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        named = (self.weights, self.weights_sha256, self.weights_config)
        if len({name is None for name in named}) > 1:
            raise ValueError("weights, weights_sha256 and weights_config belong together")
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"widths {self.widths} cannot be divided into norm_groups {self.norm_groups}")
        if self.weights is None and self.image_size % self.down:
            raise ValueError(f"image_size {self.image_size} is no multiple of {self.down}, by which images shrink")
        return self

    @property
    def down(self) -> int:
        """How many times smaller a side of the latents is than the image's; of a published one, its file tells."""
        return int(2 ** (len(self.widths) - 1))

    def serves(self) -> frozenset[str]:
        """Return what it gives: neither an embedding nor predictions."""
        return frozenset({"latents"})

    def reads(self) -> frozenset[str]:
        """Return what it knows of the dataset."""
        return frozenset({"image"})

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return tuple(path for path in (self.weights, self.weights_config) if path is not None)
