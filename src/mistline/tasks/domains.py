"""Does a model tell the domains of a tissue apart? Classes of held-out cells, in settings that are never mixed.

A model that gives predictions is trained on each fold's labels; a model that gives an embedding is judged by a
linear probe on it, or, without labels, by k-means. The control that knows places alone is in every table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

if TYPE_CHECKING:
    import pandas as pd

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = True
JUDGES = frozenset(["embedding", "prediction"])
WITHOUT_LABELS = frozenset(["unsupervised"])  # protocols that a model trained on labels cannot be judged by
PROTOCOLS = {
    "random_spot": "A: within a slide, 60 % of the labelled cells at random are trained on, 20 % are tested",
    "few_label_1": "A with 1 % of the labelled cells trained on; the same test cells",
    "few_label_2": "A with 2 % of the labelled cells trained on; the same test cells",
    "few_label_5": "A with 5 % of the labelled cells trained on; the same test cells",
    "few_label_10": "A with 10 % of the labelled cells trained on; the same test cells",
    "spatial_block": "B: within a slide, each contiguous block is tested once; a buffer around it is left out",
    "leave_group_out": "C: within a donor, groups of neighbouring slides are tested on models of its other slides",
    "leave_donor_out": "D: each donor is tested on models of all others",
    "dataset_split": "D once: the test cells of the dataset's own split, on models of its training cells; the one "
    "protocol whose tested cells no embedding was trained on",
    "unsupervised": "U: no label is used; clusters, as many as there are classes, are compared with the labels",
}


class Params(TaskParams):
    """What is predicted, and how the cells are divided."""

    label: str = Field(min_length=1, description="column of the slides' labels: the domains")
    n_blocks: int = Field(5, ge=2, description="contiguous blocks of a slide, for spatial_block")
    buffer_rings: int = Field(2, ge=0, description="rings of neighbours left out around a tested block")
    groups: tuple[tuple[str, ...], ...] = Field(
        (), description="slides that lie next to each other in the tissue and go out together, for leave_group_out"
    )


def held_out(params: Params) -> frozenset[str]:
    """Return the protocols whose tested cells are the dataset's test split."""
    del params
    return frozenset(["dataset_split"])


def folds(cells: pd.DataFrame, params: Params, protocol: str) -> pd.DataFrame:
    """Divide the cells; see `tasks.domain_folds`.

    Raises:
        ConfigError: no slide has the label column.
        InputError: a slide has no coordinates, or the protocol cannot be carried out on these slides.
    """
    from mistline.tasks import domain_folds as divide
    from mistline.tasks.controls import require_coordinates
    from mistline.tasks.labels import require_column

    label = require_column(cells, params.label, "domains")
    require_coordinates(cells, "domains")
    if protocol == "unsupervised":
        return divide.unsupervised(cells, label)
    if protocol == "dataset_split":
        return divide.dataset_split(cells, label)
    if protocol == "spatial_block":
        return divide.spatial_blocks(cells, label, params.n_blocks, params.buffer_rings, params.seed)
    if protocol == "leave_group_out":
        return divide.leave_out(cells, label, divide.pairs_of_donor(cells, params.groups), params.seed)
    if protocol == "leave_donor_out":
        return divide.leave_out(cells, label, divide.donors_out(cells), params.seed)
    percent = protocol.removeprefix("few_label_")
    share = int(percent) / 100 if percent != protocol else divide.TRAIN_SHARE
    return divide.random_spots(cells, label, share, params.seed)


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Score the test cells of every slide, and average over slides or donors.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, or predictions of other cells or classes than those of the folds.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.controls import left_out
    from mistline.tasks.domain_rows import class_rows, cluster_rows
    from mistline.tasks.domain_slides import gather

    problem = gather(inputs, params.label)
    make_rows = cluster_rows if protocol == "unsupervised" else class_rows
    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        rows = make_rows(inputs, problem, params)
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "classes": list(problem.classes),
        "n_slides": len(problem.slides),
        "n_folds": len(problem.numbers),
        "n_unlabelled": problem.n_unlabelled,
        "interval": problem.unit.note,
        "left_out": left_out(inputs, problem.cells) if inputs.is_controls else {},
    }
    return Scores(problem.unit.name, problem.n_tested, rows, settings, problem.scored())
