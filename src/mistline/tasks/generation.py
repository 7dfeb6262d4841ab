"""Do generated images of cells look like the cells that they are drawn for?

Of each slide some test cells are drawn, and every image is judged beside the real image of its own cell: by pixels,
by the nucleus, by the genes that a frozen probe reads out of it, and, all images together, as a distribution. What is
fitted (features, probe, mean image) is fitted to real images of training cells.
"""

from __future__ import annotations

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy, cv2 or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["images"])
PROTOCOLS = {
    "recon": "the generator is given the cell's own image and genes, and its surroundings: how much survives the way "
    "through its code, not what genes say of an image",
    "gene2img": "the generator is given the cell's genes and the genes around it, and no image",
    "context2img": "the generator is given the genes around the cell, and neither its image nor its genes",
}


class Params(TaskParams):
    """Which cells are judged, and at which size."""

    size_px: int = Field(
        256, ge=16, le=1024, description="side at which all images are compared; others are brought to it"
    )
    n_cells: int = Field(500, ge=20, description="test cells drawn of each slide, the same for every model")
    n_train: int = Field(500, ge=50, description="training cells drawn of each slide, for features, probe and controls")
    n_genes: int = Field(50, ge=1, description="genes read back: the most variable ones of the training cells")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Judge what a generator drew for the test cells of the dataset's own split.

    Raises:
        InputError: too few training or test cells, no gene that is measured on every slide, or images of other cells.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.generation_problem import gather
    from mistline.tasks.generation_rows import left_out, rows_of, settings_of

    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        problem = gather(inputs, params)
        rows = rows_of(inputs, problem, params, protocol)
    settings = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        **settings_of(problem, params),
        "left_out": left_out(protocol) if inputs.is_controls else {},
    }
    return Scores(problem.unit.name, len(problem.cells), rows, settings)
