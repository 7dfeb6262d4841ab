"""Settings of the frozen image encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mistline.config.base import Section

# Of timm's create_model: what would fetch weights, or is decided here.
_TAKEN = frozenset(
    [
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "num_classes",
        "in_chans",
    ]
)


class Params(Section):
    """A network of timm that is never trained here: features of the image, as they come out before the classifier."""

    name: str = Field("resnet18", pattern=r"^[a-z0-9_]+$", description="architecture, as timm calls it")
    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="further arguments of the architecture, such as init_values or img_size"
    )
    weights: str | None = Field(
        None, min_length=1, description="safetensors or state dict (pt) on disk; absent: random, drawn by the seed"
    )
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file; required with it")
    scale: str = Field("cell", description="whose image is encoded: the cell, or the tile that holds it, such as niche")
    image_size: int = Field(224, ge=16, le=1024, description="side in pixels that images are resized to")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="of red, green and blue in 0..1")
    std: tuple[float, float, float] = Field((0.229, 0.224, 0.225), description="of red, green and blue")
    channels: Literal["auto", "each", "mean"] = Field(
        "auto",
        description="auto: three channels are taken for colours, one is repeated, others are encoded one by one; each: "
        "every channel is encoded by itself and the features are joined; mean: their mean is encoded",
    )
    batch_size: int = Field(64, ge=1, description="images read at once; does not change the result")

    @field_validator("options")
    @classmethod
    def _options_fetch_nothing(
        cls, options: dict[str, bool | int | float | str]
    ) -> dict[str, bool | int | float | str]:
        taken = sorted(_TAKEN & set(options))
        if taken:
            raise ValueError(f"{taken[0]} is not an option: weights come from a file, and nothing is downloaded")
        return options

    @model_validator(mode="after")
    def _weights_are_known(self) -> Params:
        if (self.weights is None) != (self.weights_sha256 is None):
            raise ValueError("weights and weights_sha256 belong together")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["image"])

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return () if self.weights is None else (self.weights,)
