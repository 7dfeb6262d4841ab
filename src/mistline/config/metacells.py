"""The vocabulary of meta-cells (GeST, algorithms 1 and 2)."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Metacells(Section):
    """PCA, k-means and the hierarchy above it, fitted on training cells only."""

    n_metacells: int = Field(512, ge=2, description="K, the number of centres asked for")
    n_components: int = Field(50, ge=2, description="p, principal components the centres live in")
    levels: tuple[int, ...] = Field(
        (15, 10, 5), description="coarser groupings of the centres, each fitted independently"
    )
    min_cells: int = Field(20, ge=1, description="a centre with fewer training cells is dropped")
    max_fit_cells: int = Field(500_000, ge=1000, description="training cells drawn for the fit")
    n_restarts: int = Field(3, ge=1, description="k-means restarts; the tightest is kept")
    n_iterations: int = Field(
        20, ge=1, description="Lloyd iterations of a restart; the first half on a sample of 64 cells a centre"
    )
