"""Settings of GeST: a size, and what it fills in (specs/gest.md section 2). No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

Rule = Literal["jitter", "sorted", "inverse_power", "paper_eq5", "random"]

BINS = 200  # positions are integers from 0 to this (section 6)
SHORTEST_STEP_UM = 3.0  # the paper's, whose windows have 600 um: a finer one tells cells apart that lie alike

SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "width": 64,
        "layers": 4,
        "heads": 4,
        "window_um": 300.0,
        "steps": 5000,
        "learning_rate": 1e-3,
        "validate_every": 500,
    },
    "tiny": {
        "width": 32,
        "layers": 2,
        "heads": 2,
        "window_um": 150.0,
        "dropout": 0.0,
        "train_batch": 16,
        "steps": 300,
        "learning_rate": 3e-3,
        "validate_every": 100,
        "val_batches": 4,
    },
}


# The published ablations change one part each (tables 3, 4, A.2 and A.4); the last four are ours.
PRESETS: dict[str, dict[str, Any]] = {
    "gest": {},
    "l2h2": {"layers": 2, "heads": 2},
    "l4h4": {"layers": 4, "heads": 4},
    "l16h16": {"layers": 16, "heads": 16},
    "l12h8": {"layers": 12, "heads": 8},
    "window_200": {"window_um": 200.0},
    "window_400": {"window_um": 400.0},
    "window_800": {"window_um": 800.0},
    "no_hierarchy": {"hierarchy": False},
    "no_quantisation": {"quantised": False},
    "no_positions": {"spatial": False},
    "random_order": {"order": "random"},
    "printed_order": {"order": "paper_eq5", "random_share": 0.0},
    "sorted_order": {"order": "sorted", "random_share": 0.0},
    "direct_head": {"head": "direct"},
    "copies": {"copies": True},
}


class Params(Section):
    """The expression of a cell from its place and from the cells around it, of which none of its own genes is read."""

    size: Literal["tiny", "small", "paper"] = Field("small", description="of the network; fills in what is below")
    preset: str = Field("gest", description=f"of the ablation: {', '.join(PRESETS)}")
    width: int = Field(96, ge=4, description="D, of tokens and of the embedding")
    layers: int = Field(8, ge=1)
    heads: int = Field(8, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    quantised: bool = Field(
        True,
        description="cells are meta-cells; else their own profiles, learned with a squared error (an ablation)",
    )
    copies: bool = Field(
        False, description="meta-cells of seen cells are copied by their distance as well (not of the paper)"
    )
    head: Literal["codebook", "direct"] = Field(
        "codebook", description="scores by a profile and the meta-cells' own, or from the hidden state"
    )
    hierarchy: bool = Field(True, description="whether coarser levels of the meta-cells are learned as well")
    spatial: bool = Field(True, description="whether positions are told; without, their codes are ones")
    profile_components: int = Field(50, ge=1, description="whitened components of meta-cells' profiles that are read")

    window_um: float = Field(600.0, gt=0, description="W, side of a training window")
    bin_um: float | None = Field(
        None, gt=0, description="length of one step of positions; None for W / 200, and 3 um at least"
    )
    min_cells: int = Field(5, ge=2, description="cells of a window; centres with fewer are not trained on")
    max_cells: int = Field(1024, ge=2, description="cells of a window, the nearest to its centre")
    order: Rule = Field("jitter", description="rule of the serialisation")
    jitter_um: float | None = Field(
        None, ge=0, description="of the rule jitter; None for twice the median distance to the nearest cell"
    )
    power: float = Field(4.0, gt=0, description="of the rule inverse_power")
    turns: bool = Field(True, description="training windows are turned and mirrored at random")
    random_share: float = Field(0.2, ge=0, le=1, description="share of training windows in random order")

    n_metacells: int = Field(512, ge=2, description="K, where the dataset has no meta-cells of its own")
    n_components: int = Field(50, ge=2, description="p, components these are found in")
    levels: tuple[int, ...] = Field((15, 10, 5), description="groups of these at each coarser level")
    min_cells_metacell: int = Field(20, ge=1, description="a meta-cell with fewer training cells is dropped")
    max_fit_cells: int = Field(500_000, ge=100, description="training cells drawn for that fit")
    min_overlap: float = Field(0.5, ge=0, le=1, description="share of their genes that a slide must measure")

    embed_window_um: float | None = Field(None, gt=0, description="side of the niche that is embedded; None for W")
    embed_corners: int = Field(4, ge=1, le=4, description="corners whose orders an embedding is the mean of")

    start: str | None = Field(
        None, min_length=1, description="weights.safetensors of a run of gest: its training goes on, on this dataset"
    )
    start_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file")
    steps: int = Field(50_000, ge=0)
    train_batch: int = Field(32, ge=1, description="windows of a training batch of one device")
    accumulate: int = Field(1, ge=1, description="batches of a step")
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.02, ge=0, le=1, description="share of the steps over which the rate rises")
    clip: float = Field(1.0, gt=0)
    validate_every: int = Field(1000, ge=1, description="steps")
    val_batches: int | None = Field(20, ge=1)
    save_every: int = Field(500, ge=1, description="steps between two saved states")
    patience: int | None = Field(10, ge=1, description="validations without a lower loss before training stops")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "gest")
        if str(preset) not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: known are {', '.join(PRESETS)}")
        return {**SIZES.get(str(values.get("size", "small")), {}), **PRESETS[preset], **values}

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        if self.width % 4:
            raise ValueError(f"width {self.width} cannot be divided by 4, as codes of positions need")
        if self.max_cells < self.min_cells:
            raise ValueError(f"max_cells {self.max_cells} is below min_cells {self.min_cells}")
        if self.copies and not self.quantised:
            raise ValueError("copies are of meta-cells, and without quantisation there are none")
        if (self.start is None) != (self.start_sha256 is None):
            raise ValueError("start and start_sha256 belong together")
        return self

    @property
    def step_um(self) -> float:
        """Return b, the length that one integer of a position stands for; the same for windows of any side."""
        return max(self.window_um / BINS, SHORTEST_STEP_UM) if self.bin_um is None else self.bin_um

    @property
    def niche_um(self) -> float:
        """Return the side of the niche that is embedded."""
        return self.window_um if self.embed_window_um is None else self.embed_window_um

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return () if self.start is None else (self.start,)

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge: an embedding, and cells at places where none were measured."""
        return frozenset({"embedding", "cells"})

    def reads(self) -> frozenset[str]:
        """Return what the embedding of a cell knows of the dataset."""
        return frozenset({"genes", "coordinates"}) if self.spatial else frozenset({"genes"})
