"""Does a model know what a cell is? Classes of held-out cells, in two protocols that are never mixed.

A model that gives an embedding is judged by three probes on it (linear, nearest neighbours, a small network); a
model that gives predictions is trained on the labels of each fold. The score without a probe's name, which both
kinds have, is that of the probe with the best macro F1 on validation cells.
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
PROTOCOLS = {
    "random_split": "20 % of the labelled cells of all slides are tested, drawn at random class by class; "
    "neighbours of a tested cell, and its donor's other cells, are trained on",
    "external_query": "a reference is trained on, a query is tested: the dataset's test split, or the slides "
    "that are named",
}


class Params(TaskParams):
    """What is predicted, from whom, and by which probes."""

    label: str = Field(min_length=1, description="column of the slides' labels: the classes")
    repeats: int = Field(3, ge=1, description="independent divisions, for random_split")
    query: tuple[str, ...] = Field(
        (), description="slides that are tested, for external_query; empty: the dataset's test split"
    )
    max_cells: int = Field(20_000, ge=50, description="labelled cells drawn, the same for every model")
    hidden: int = Field(256, ge=1, description="width of the network's hidden layer")
    epochs: int = Field(200, ge=1, description="passes of the network over the training cells, at most")
    patience: int = Field(10, ge=1, description="passes without a better validation loss after which it stops")


def held_out(params: Params) -> frozenset[str]:
    """Return the protocols whose tested cells are the dataset's test split."""
    return frozenset() if params.query else frozenset(["external_query"])


def folds(cells: pd.DataFrame, params: Params, protocol: str) -> pd.DataFrame:
    """Divide the cells; see `tasks.annotation_folds`.

    Raises:
        ConfigError: no slide has the label column, or a slide of the query is not in the run.
        InputError: one class, or nothing is left to train on or to test.
    """
    from mistline.tasks import annotation_folds as divide
    from mistline.tasks.labels import encode, require_column

    label = require_column(cells, params.label, "annotation")
    encode(cells[label])
    if protocol == "random_split":
        return divide.random_split(cells, label, params.repeats, params.max_cells, params.seed)
    return divide.external_query(cells, label, params.query, params.max_cells, params.seed)


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Score the tested cells of every fold, and average over folds.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, or folds or predictions of other cells or classes.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.annotation_problem import gather
    from mistline.tasks.annotation_rows import rows
    from mistline.tasks.controls import left_out

    problem = gather(inputs, params.label)
    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        found = rows(inputs, problem, params)
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "classes": list(problem.classes),
        **problem.about(),
        "interval": problem.interval,
        "macro": "over the classes that occur among the true or the predicted ones (torchmetrics' default)",
        "left_out": left_out(inputs, problem.cells) if inputs.is_controls else {},
    }
    return Scores(problem.unit.name, problem.n_tested, found, settings, problem.scored())
