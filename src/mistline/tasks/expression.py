"""Does the image of a place tell its genes? The most variable genes regressed on the embedding of its patch.

The protocol of HEST-bench: scaling and 256 components fitted on training cells, boosted trees (and ridge), targets
log1p of raw counts, correlation gene by gene over the cells of a tested slide. Genes are chosen on the training
cells of the fold, not on all cells as in a list that comes with a benchmark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

if TYPE_CHECKING:
    import pandas as pd

# What needs scikit-learn, xgboost or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["embedding"])
REFUSES = frozenset(["genes"])  # a model that reads genes would be given the answer
PROTOCOLS = {
    "dataset_split": "the dataset's own split: its test cells on a model of its training cells",
    "leave_slide_out": "each slide is tested on a model of all others, other slides of its donor among them",
    "leave_donor_out": "each donor is tested on a model of all others",
}


class Params(TaskParams):
    """Which genes are predicted, and who is tested."""

    n_genes: int = Field(50, ge=1, description="the most variable genes among the training cells")
    test: tuple[str, ...] = Field(
        (), description="slides (donors) that leave_slide_out (leave_donor_out) tests; empty means each in turn"
    )
    max_cells: int = Field(20_000, ge=100, description="training, and tested, cells drawn of a fold")


def folds(cells: pd.DataFrame, params: Params, protocol: str) -> pd.DataFrame:
    """Divide the cells; see `tasks.expression_folds`.

    Raises:
        ConfigError: `test` names what is not there.
        InputError: there is only one slide, or one donor, to leave out.
    """
    from mistline.tasks import expression_folds as divide

    if protocol == "dataset_split":
        return divide.dataset_split(cells)
    return divide.leave_out(cells, "slide" if protocol == "leave_slide_out" else "donor", params.test)


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Regress the genes of each fold, and correlate on each tested slide.

    Raises:
        InputError: nothing to train on, or no gene to predict.
    """
    from mistline.tasks.expression_problem import LEAST_DETECTED, gather
    from mistline.tasks.expression_regress import TREES
    from mistline.tasks.expression_rows import NOTES, left_out, rows_of, scored_in

    found = gather(inputs, params.n_genes, params.max_cells, params.seed)
    tested = scored_in(found)
    rows = rows_of(inputs, found, tested, params)
    values = "the given logs" if inputs.values == "log" else f"log1p of {inputs.values}, whatever the depth"
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "targets": f"{values}; the most variable genes of those that {LEAST_DETECTED:.0%} of the training cells have",
        "genes": [list(fold.genes) for fold in found],
        "n_cells": [{"train": len(fold.train), "test": len(fold.test)} for fold in found],
        "slides": [
            {part: sorted(set(table["slide"])) for part, table in (("train", fold.train), ("test", fold.test))}
            for fold in found
        ],
        "donors_disjoint": all(not set(fold.train["donor"]) & set(fold.test["donor"]) for fold in found),
        "trees": TREES,
        "score": "Pearson's correlation of each gene over the cells of a tested slide; the mean over genes, then over "
        "slides (and donors); a constant prediction counts 0, a gene that is constant on a slide is left out there",
        "interval": NOTES[tested.unit],
        "left_out": left_out(inputs, found) if inputs.is_controls else {},
    }
    return Scores(tested.unit, sum(len(fold.test) for fold in found), rows, settings)
