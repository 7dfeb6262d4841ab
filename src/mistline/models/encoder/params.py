"""Settings of the frozen image encoder."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mistline.config.base import Section
from mistline.models.encoder.presets import IMAGENET_MEAN, IMAGENET_STD, PRESETS, Encoder, Option

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


_DECIDED = ("name", "options", "image_size", "mean", "std")  # by a preset


class Params(Section):
    """A network that is never trained here: features of the image, as they come out before the classifier."""

    preset: str | None = Field(
        None, description=f"a published encoder, which decides {', '.join(_DECIDED)}: one of {', '.join(PRESETS)}"
    )
    name: str = Field("resnet18", pattern=r"^[a-z0-9_]+$", description="architecture, as timm calls it")
    options: dict[str, Option] = Field(
        default_factory=dict, description="further arguments of the architecture, such as init_values or img_size"
    )
    weights: str | None = Field(
        None, min_length=1, description="safetensors or state dict (pt) on disk; absent: random, drawn by the seed"
    )
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file; required with it")
    scale: str = Field("cell", description="whose image is encoded: the cell, or the tile that holds it, such as niche")
    image_size: int = Field(224, ge=16, le=1024, description="side in pixels that images are resized to")
    mean: tuple[float, float, float] = Field(IMAGENET_MEAN, description="of red, green and blue in 0..1")
    std: tuple[float, float, float] = Field(IMAGENET_STD, description="of red, green and blue")
    channels: Literal["auto", "each", "mean"] = Field(
        "auto",
        description="auto: three channels are taken for colours, one is repeated, others are encoded one by one; each: "
        "every channel is encoded by itself and the features are joined; mean: their mean is encoded",
    )
    batch_size: int = Field(64, ge=1, description="images read at once; does not change the result")

    @field_validator("preset")
    @classmethod
    def _preset_is_known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in PRESETS:
            near = difflib.get_close_matches(preset, list(PRESETS), n=1, cutoff=0.5)
            raise ValueError(f"did you mean {near[0]}" if near else f"known are {', '.join(PRESETS)}")
        return preset

    @field_validator("options")
    @classmethod
    def _options_fetch_nothing(cls, options: dict[str, Option]) -> dict[str, Option]:
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

    @model_validator(mode="after")
    def _preset_decides(self) -> Params:
        if self.preset is None:
            return self
        fields = type(self).model_fields
        # What equals its default is not refused: a stored model's settings name every key.
        taken = [
            name for name in _DECIDED if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        if taken:
            raise ValueError(f"{taken[0]} is decided by the preset {self.preset}: leave it out, or leave preset out")
        if self.weights is None and not self.encoder.random:
            raise ValueError(f"the preset {self.preset} needs weights, and none are fetched: {self.encoder.how}")
        return self

    @property
    def encoder(self) -> Encoder:
        """The encoder meant: the preset's, or the one these settings describe."""
        if self.preset is not None:
            return PRESETS[self.preset]
        return Encoder(self.name, self.image_size, self.options, mean=self.mean, std=self.std, random=True)

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["image"])

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return () if self.weights is None else (self.weights,)

    def how(self) -> str:
        """Say how a file that is not there is had; empty where nothing is known of it."""
        return self.encoder.how
