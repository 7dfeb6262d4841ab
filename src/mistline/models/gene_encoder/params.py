"""Settings of the frozen encoder of counts."""

from __future__ import annotations

import difflib

from pydantic import Field, field_validator, model_validator

from mistline.config.base import Section
from mistline.models.gene_encoder.presets import ELSEWHERE, PRESETS, GeneModel

_FILES = ("weights", "vocabulary", "medians")
_SHA256 = r"^[0-9a-f]{64}$"


class Params(Section):
    """A published encoder of counts that is never trained here, and its files."""

    preset: str = Field(description=f"which one: {' or '.join(PRESETS)}")
    weights: str | None = Field(None, min_length=1, description="safetensors or state dict (pt) on disk")
    weights_sha256: str | None = Field(None, pattern=_SHA256, description="of that file")
    vocabulary: str | None = Field(None, min_length=1, description="gene -> number of its token (json, or pkl of that)")
    vocabulary_sha256: str | None = Field(None, pattern=_SHA256, description="of that file")
    medians: str | None = Field(None, min_length=1, description="gene -> its usual share (json, or pkl); geneformer's")
    medians_sha256: str | None = Field(None, pattern=_SHA256, description="of that file")
    min_mapped: float = Field(0.5, ge=0, le=1, description="share of the dataset's genes that its vocabulary must have")
    batch_size: int = Field(256, ge=1, description="cells read at once; does not change the result")

    @field_validator("preset")
    @classmethod
    def _preset_is_known(cls, preset: str) -> str:
        if preset.lower() in ELSEWHERE:
            raise ValueError(ELSEWHERE[preset.lower()])
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset.lower(), list(PRESETS), n=1, cutoff=0.5)
            raise ValueError(f"did you mean {near[0]}" if near else f"known are {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _files_are_named(self) -> Params:
        for key in _FILES:
            path, sha256 = getattr(self, key), getattr(self, f"{key}_sha256")
            if (path is None) != (sha256 is None):
                raise ValueError(f"{key} and {key}_sha256 belong together")
            if key in self.encoder.files and path is None:
                raise ValueError(f"the preset {self.preset} needs {key}, and none is fetched: {self.encoder.how}")
            if key not in self.encoder.files and path is not None:
                raise ValueError(f"the preset {self.preset} reads no {key}: leave it out")
        return self

    @property
    def encoder(self) -> GeneModel:
        """What is known of the preset."""
        return PRESETS[self.preset]

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset(["genes"])

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return tuple(str(getattr(self, key)) for key in self.encoder.files)

    def how(self) -> str:
        """Say how a file that is not there is had."""
        return self.encoder.how
