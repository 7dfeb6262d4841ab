"""Which genes would a panel have shown that it does not measure? Measured genes are closed, and imputed from the rest.

The genes that slide and single-cell reference share are divided into folds. A method is given the others of each fold
and the reference; what it says of the closed ones is compared with what was measured, gene by gene, beside controls
that read the same arrays. Measured values of tested genes are read here alone, after all predictions are on disk.
"""

from __future__ import annotations

from pydantic import Field

from mistline.config.imputation import Division
from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["genes"])
PROTOCOLS = {
    "gene_folds": "the genes shared with the reference in folds, alike in detection rate and mean; each fold's are "
    "imputed from the other genes and the reference, and no measured value of them is read before they are scored",
}


class Params(TaskParams, Division):
    """How genes are divided, which cells are judged, and what the controls read."""

    max_cells: int = Field(5000, ge=50, description="cells of a slide that are judged, drawn by hashes of their ids")
    slides: tuple[str, ...] = Field((), description="slides that are judged; empty means all")
    n_correlated: int = Field(10, ge=1, description="training genes whose weighted mean `correlated_genes` is")
    n_neighbors: int = Field(50, ge=1, description="single cells whose mean `knn_transfer` is")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Judge the imputed genes of all folds and slides.

    Raises:
        InputError: cells or genes that are judged were not imputed, the file is of another protocol or division, or
            the method has read genes that it is tested on.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.imputation_rows import Table, settings_of

    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        table = Table.of(inputs, params, protocol)
        for pair in inputs.pairs():
            table.add(pair)
        rows = table.rows()
    settings = {**params.model_dump(mode="json"), "protocol": PROTOCOLS[protocol], **settings_of(table)}
    return Scores("gene", table.n_cells, rows, settings)
