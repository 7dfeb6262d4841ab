"""Generators of images: what they read, sampling, edits of genes, and the sweep behind the speed table."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from mistline.config.base import Section

_LEVEL = re.compile(r"x?\d+(\.\d+)?")


class Merge(Section):
    """Token merging inside the U-Net (specs/spatia.md section 10)."""

    way: Literal["none", "cfg", "tomesd"] = Field(
        "none", description="none; cfg: by the importance that guidance tells; tomesd: the published bipartite merging"
    )
    ratio: float = Field(0.5, ge=0, lt=1, description="share of the tokens of a layer that are merged away")
    coverage: bool = Field(True, description="keep an anchor in every square of 2 x 2 tokens where there is room")
    kappa: float = Field(0.2, ge=-1, le=1, description="cosine from which a token joins an anchor")
    overlap: int = Field(4, ge=1, description="anchors that one token may join")
    refresh: int = Field(1, ge=1, description="sampler steps for which a map of tokens is kept")
    smallest: int = Field(256, ge=4, description="tokens from which a layer is merged")


class Sampling(Section):
    """How images are drawn from a generator."""

    steps: int = Field(50, ge=1, le=1000, description="sampler steps (DDIM; midpoint steps of a flow)")
    guidance: float = Field(2.0, ge=0, le=20, description="weight of the condition; 1 is plain conditional sampling")
    batch_size: int = Field(64, ge=1, description="cells drawn at once; changes no image")
    merge: Merge = Field(default_factory=Merge)


class Edit(Section):
    """Cells drawn again with some of their counts changed."""

    genes: tuple[str, ...] = Field(min_length=1, description="symbols or ids of the genes that are changed together")
    levels: tuple[str, ...] = Field(
        ("0", "x0.5", "x1", "x2", "x4"), min_length=1, description="counts (0 knocks out), or with x factors on them"
    )
    slide: str | None = Field(None, description="whose cells; the first one with test cells where none is named")
    cells: tuple[str, ...] = Field((), description="ids; empty: the first `n_cells` of the test cells, by a draw")
    n_cells: int = Field(4, ge=1, description="cells that are drawn where none is named")

    @field_validator("levels")
    @classmethod
    def _levels_are_told(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for level in levels:
            if not _LEVEL.fullmatch(level):
                raise ValueError(f"a level is a count such as 0 or 12, or a factor such as x2, not {level}")
        return levels


class Sweep(Section):
    """What the speed table compares."""

    ratios: tuple[float, ...] = Field((0.0, 0.25, 0.5, 0.75), min_length=1, description="shares of tokens merged away")
    steps: tuple[int, ...] = Field((50, 20, 10), min_length=1, description="sampler steps")
    ways: tuple[Literal["cfg", "tomesd"], ...] = Field(("cfg", "tomesd"), min_length=1, description="ways of merging")
    n_cells: int = Field(64, ge=2, description="test cells drawn for each row")

    @field_validator("ratios")
    @classmethod
    def _ratios_are_shares(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= ratio < 1 for ratio in ratios):
            raise ValueError("a ratio is a share from 0 to below 1")
        return ratios


class EncodedCells(Section):
    """Cells of a slide that generators are trained on and judged by; drawn where there are more."""

    train: int = Field(50_000, ge=1, description="training cells a slide")
    val: int = Field(1_000, ge=1, description="validation cells a slide")
    test: int = Field(2_000, ge=1, description="test cells a slide")
    batch_size: int = Field(256, ge=1, description="cells encoded at once; does not change the result")


class Generation(Section):
    """What generators read, and how they are used once they are trained."""

    encoded: EncodedCells = Field(default_factory=EncodedCells)
    protocol: Literal["recon", "gene2img", "context2img"] = Field(
        "gene2img", description="what edits and the sweep are drawn from"
    )
    sampling: Sampling = Field(default_factory=Sampling)
    edits: tuple[Edit, ...] = Field((), description="edits shown in the report")
    sweep: Sweep | None = Field(None, description="rows of the speed table; null for none")
