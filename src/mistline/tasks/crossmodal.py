"""How much do image and genes say of each other? From an image embedding to the genes of a cell, and back.

Correlations are given on both axes, for they answer different questions: of a gene over cells, and of a cell over
genes, where a mean profile that knows nothing of the image already does well.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["embedding"])
REFUSES = frozenset(["genes"])  # a model that reads genes would be given the answer
PROTOCOLS = {
    "image_to_genes_ridge": "log-normalised genes decoded from the embedding of the image by ridge regression",
    "image_to_genes_mlp": "log-normalised genes decoded from the embedding of the image by a small network",
    "genes_to_image_ridge": "the embedding of the image decoded from log-normalised genes by ridge regression",
    "genes_to_image_mlp": "the embedding of the image decoded from log-normalised genes by a small network",
}


class Params(TaskParams):
    """How many cells are decoded."""

    max_cells: int = Field(10_000, ge=100, description="cells drawn of each split, the same for every model")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Decode the test cells of the dataset's own split, and correlate.

    Raises:
        InputError: no training or test cell, or no gene that is measured on every slide.
    """
    from mistline.tasks.crossmodal_rows import gather, left_out, rows_of

    way, _, decoder = protocol.rpartition("_")
    problem = gather(inputs, params, way)
    axis = "gene" if way == "image_to_genes" else "dimension"
    rows = rows_of(inputs, problem, params, decoder)
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "n_cells": {split: len(cells) for split, cells in problem.cells.items()},
        "n_genes": len(problem.log_counts.genes),
        "gene_values": f"log1p of values scaled to {problem.log_counts.depth:g}, the median training cell"
        if problem.log_counts.values == "counts"
        else f"as given ({problem.log_counts.values}), in logs",
        "donors_disjoint": problem.donors_disjoint,
        f"pearson_{axis}, spearman_{axis}": f"of a {axis} over test cells, then the mean over {axis}s",
        "pearson_cell, spearman_cell": f"of a test cell over {axis}s, then the mean over cells",
        "constant": "a constant prediction counts 0; a constant truth is left out",
        "interval": problem.note,
        "left_out": left_out(problem) if inputs.is_controls else {},
    }
    return Scores(problem.unit_name, len(problem.cells["test"]), rows, settings, own_truth=not problem.to_genes)
