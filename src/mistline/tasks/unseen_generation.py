"""What would be measured where nothing was? Squares of the test slides are hidden and generated from the rest.

The model is given the places of the hidden cells and everything around them; what it generates is compared with what
was measured there, beside controls that are fitted to the visible cells of the same slide.
"""

from __future__ import annotations

from pydantic import Field

from mistline.config.holes import SIDES_UM, Holes
from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["cells"])
PROTOCOLS = {
    name: f"squares of {side:g} um are hidden; of their cells the places alone are known"
    for name, side in SIDES_UM.items()
}


class Params(TaskParams):
    """Which cells are hidden, and what the controls may read of the others."""

    holes: Holes = Field(default_factory=Holes, description="of each slide with test cells")
    n_neighbors: int = Field(10, ge=1, description="visible cells whose mean `knn_mean` is")
    n_spatial: int = Field(50, ge=1, description="genes of the metrics `_spatial`: those that vary most in space")
    gp_cells: int = Field(2000, ge=20, le=2000, description="visible cells around a hole that `gp` is conditioned on")
    gp_fit_cells: int = Field(500, ge=20, le=2000, description="of these, cells that its kernel is chosen on")
    mlp_cells: int = Field(10_000, ge=20, description="visible cells of a slide that `mlp` is trained on")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Judge what was generated in the holes of the test slides.

    Raises:
        InputError: no slide has test cells, a slide has no square that fits, a cell has no place, no gene is measured
            on every slide, or other cells were filled than are hidden.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.unseen_generation_problem import hidden_slides, prepare
    from mistline.tasks.unseen_generation_rows import Table, rows_of, settings_of

    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        problem = prepare(inputs, params, protocol)
        table = Table()
        for slide in hidden_slides(inputs, problem):
            table.add(slide, rows_of(inputs, slide, problem))
    rows = table.rows(problem)
    settings = {**params.model_dump(mode="json"), "protocol": PROTOCOLS[protocol], **settings_of(problem, table)}
    return Scores(table.unit, table.n_cells, rows, settings)
