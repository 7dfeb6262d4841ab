"""Settings of GeST: a size, and what it fills in (specs/gest.md section 2). No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

Rule = Literal["jitter", "sorted", "inverse_power", "paper_eq5", "random"]

BINS = 200  # positions are integers from 0 to this (section 6)

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


class Params(Section):
    """The expression of a cell from its place and from the cells around it, of which none of its own genes is read."""

    size: Literal["tiny", "small", "paper"] = Field("small", description="of the network; fills in what is below")
    width: int = Field(96, ge=4, description="D, of tokens and of the embedding")
    layers: int = Field(8, ge=1)
    heads: int = Field(8, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    head: Literal["codebook", "direct"] = Field(
        "codebook", description="scores by a profile and the meta-cells' own, or from the hidden state"
    )
    hierarchy: bool = Field(True, description="whether coarser levels of the meta-cells are learned as well")
    spatial: bool = Field(True, description="whether positions are told; without, their codes are ones")
    profile_components: int = Field(50, ge=1, description="whitened components of meta-cells' profiles that are read")

    window_um: float = Field(600.0, gt=0, description="W, side of a training window")
    bin_um: float | None = Field(None, gt=0, description="length of one step of positions; None for W / 200")
    min_cells: int = Field(5, ge=2, description="cells of a window; centres with fewer are not trained on")
    max_cells: int = Field(1024, ge=2, description="cells of a window, the nearest to its centre")
    order: Rule = Field("jitter", description="rule of the serialisation")
    jitter_um: float | None = Field(
        None, ge=0, description="of the rule jitter; None for twice the median distance to the nearest cell"
    )
    power: float = Field(4.0, gt=0, description="of the rule inverse_power")
    random_share: float = Field(0.2, ge=0, le=1, description="share of training windows in random order")

    n_metacells: int = Field(512, ge=2, description="K, where the dataset has no meta-cells of its own")
    n_components: int = Field(50, ge=2, description="p, components these are found in")
    levels: tuple[int, ...] = Field((15, 10, 5), description="groups of these at each coarser level")
    min_cells_metacell: int = Field(20, ge=1, description="a meta-cell with fewer training cells is dropped")
    max_fit_cells: int = Field(500_000, ge=100, description="training cells drawn for that fit")
    min_overlap: float = Field(0.5, ge=0, le=1, description="share of their genes that a slide must measure")

    embed_window_um: float | None = Field(None, gt=0, description="side of the niche that is embedded; None for W")
    embed_corners: int = Field(4, ge=1, le=4, description="corners whose orders an embedding is the mean of")

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
        return {**SIZES.get(values.get("size", "small"), {}), **values}

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        if self.width % 4:
            raise ValueError(f"width {self.width} cannot be divided by 4, as codes of positions need")
        if self.max_cells < self.min_cells:
            raise ValueError(f"max_cells {self.max_cells} is below min_cells {self.min_cells}")
        return self

    @property
    def step_um(self) -> float:
        """Return b, the length that one integer of a position stands for; the same for windows of any side."""
        return self.window_um / BINS if self.bin_um is None else self.bin_um

    @property
    def niche_um(self) -> float:
        """Return the side of the niche that is embedded."""
        return self.window_um if self.embed_window_um is None else self.embed_window_um

    def reads(self) -> frozenset[str]:
        """Return what the embedding of a cell knows of the dataset."""
        return frozenset({"genes", "coordinates"}) if self.spatial else frozenset({"genes"})
