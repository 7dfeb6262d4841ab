"""In-silico perturbation: which genes are changed in which circles of tissue, and where cells are generated again."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from mistline.config.base import Section


class Perturbation(Section):
    """What is changed, and where.

    A circle (region of interest, ROI) of test cells is changed; the cells of the ring around it are hidden, and
    generated from the changed circle and everything else.
    """

    activated: tuple[str, ...] = Field((), description="symbols or ids of genes that are raised in the circle")
    inhibited: tuple[str, ...] = Field((), description="symbols or ids of genes that are lowered in it")
    n_rois: int = Field(3, ge=1, description="circles of a slide; fewer where no more fit beside each other")
    radius_um: float = Field(60.0, gt=0, description="of a circle")
    ring_um: float = Field(120.0, gt=0, description="how far beyond the circle's rim cells are generated")
    sigma: float = Field(0.5, gt=0, description="width of the change around the centre, as a share of the radius")
    sweep: tuple[float, ...] = Field((0.25, 0.5, 1.0), description="other widths that are told of beside it")
    least_cells: int = Field(5, ge=1, description="cells in a circle, at least; in a ring as well")
    at: tuple[tuple[str, float, float], ...] = Field(
        (), description="slide, x and y (um) of the circles' centres, in the place of a draw"
    )
    seed: int = Field(0, ge=0, description="of the draw of other genes, the control `random_genes`")

    @field_validator("sweep")
    @classmethod
    def _widths_are_some(cls, sweep: tuple[float, ...]) -> tuple[float, ...]:
        if any(not share > 0 for share in sweep):
            raise ValueError("a width is a share of the radius above 0")
        return sweep

    @model_validator(mode="after")
    def _genes_are_named(self) -> Perturbation:
        named = [name.lower() for name in (*self.activated, *self.inhibited)]
        if not named:
            raise ValueError("no gene is activated or inhibited")
        twice = next((name for name in self.activated + self.inhibited if named.count(name.lower()) > 1), None)
        if twice is not None:
            raise ValueError(f"gene {twice} is named twice")
        return self

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Return all widths, rising."""
        return tuple(sorted({*self.sweep, self.sigma}))

    @property
    def reach_um(self) -> float:
        """Return how far from a circle's centre cells are generated."""
        return self.radius_um + self.ring_um
