"""Settings of the niche model (specs/gest.md section 10). No torch is imported."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

_OF_TRAINING = {"learning_rate", "weight_decay", "epochs", "batch", "clip"}


class Params(Section):
    """A classifier of cells by the states of a trained gest."""

    start: str = Field(min_length=1, description="name of a run of gest, whose weights are trained further")
    frozen: bool = Field(
        False, description="leave those weights as they are: the linear probe that the training else begins with"
    )
    pooling: Literal["mean", "max"] = Field("mean", description="of the states of a cell and its neighbours")
    window_um: float | None = Field(
        None, gt=0, description="side of the niche; None for that of the embeddings of the run"
    )

    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    epochs: int = Field(3, ge=1, description="of as many draws as there are training cells, all classes alike")
    batch: int = Field(32, ge=1, description="niches of a step")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    max_cells: int = Field(
        50_000, ge=1, description="labelled cells of a fold that are trained on, and validated on, drawn from more"
    )

    @model_validator(mode="after")
    def _trains(self) -> Self:
        idle = sorted(_OF_TRAINING & self.model_fields_set)
        if self.frozen and idle:
            raise ValueError(f"frozen trains no weights of gest: leave out {', '.join(idle)}")
        return self

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge."""
        return frozenset({"prediction"})

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return frozenset({"genes", "coordinates"})
