"""Does an embedding tell which cell types live in a niche, and in which proportions?

A niche is a square tile of the slide. The proportions of its labelled cells are predicted from the mean of the
embeddings of all its cells, or those of the other cells from the embedding of one; on held-out donors or places.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = True
JUDGES = frozenset(["embedding"])
PROTOCOLS = {
    "dataset_split": "niches of the training cells are fitted on and those of the test cells are scored; a niche "
    "that lies across two splits is left out",
    "around_cell": "from the embedding of one cell, the types of the labelled cells of its niche without the cell "
    "itself; fitted on training cells, scored on test cells, none of a niche that lies across two splits",
}


class Params(TaskParams):
    """What a niche is, and how many are drawn."""

    label: str = Field(min_length=1, description="column of the slides' labels: the cell types")
    niche_um: float = Field(54.4, gt=0, description="side of a niche in micrometres; 256 pixels of Xenium are 54.4")
    min_cells: int = Field(5, ge=1, description="labelled cells that a niche needs, fewer tell no proportions")
    max_niches: int = Field(20_000, ge=100, description="niches drawn of each split, the same for every model")
    max_cells: int = Field(10_000, ge=100, description="around_cell: cells drawn of each split, for every model")


def held_out(params: Params) -> frozenset[str]:
    """Return the protocols whose tested cells are the dataset's test split."""
    del params
    return frozenset(PROTOCOLS)


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Score the test niches, or cells, of every representation.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, slides without coordinates, or nothing to fit on or to score.
    """
    from mistline.tasks.composition_around import gather_cells
    from mistline.tasks.composition_niches import SPLITS, gather
    from mistline.tasks.composition_rows import SMOOTHING, answers, score

    is_around = protocol == "around_cell"
    niches = gather_cells(inputs, params) if is_around else gather(inputs, params)
    rows = {name: score(answer, niches, params) for name, answer in answers(inputs, niches, params).items()}
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "classes": list(niches.classes),
        "absent_in_training": niches.absent_in_training(),
        "n_cells" if is_around else "n_niches": {split: niches.count(split) for split in SPLITS},
        "n_left_out": dict(niches.left_out),
        "n_unlabelled": niches.n_unlabelled,
        "smoothing": f"{SMOOTHING} of every prediction is spread evenly over the classes, so that none is impossible",
        "mae": "mean over classes of the absolute difference of proportions",
        "pearson": "over niches or cells, class by class, then the mean over classes; a constant prediction counts 0",
        "interval": niches.note,
        "left_out": niches.controls_left_out(inputs) if inputs.is_controls else {},
    }
    return Scores(niches.unit_name, niches.count("test"), rows, settings)
