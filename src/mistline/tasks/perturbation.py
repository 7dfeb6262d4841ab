"""Does a change of some cells change what a model generates around them, in the genes and at the distances it should?

Genes of the cells in circles of the test slides are raised or lowered; the rings around are generated once from the
circles as measured and once from the changed ones. Of genes whose answer is known it is asked whether they are higher,
lower or the same. Other genes changed, and the same change far away, are the controls.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mistline.config.perturbation import Perturbation
from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["cells"])
PROTOCOLS = {"rings": "rings around changed circles of test cells are generated, and compared with unchanged ones"}

Call = Literal["high", "low", "same"]


class Params(TaskParams):
    """What is changed, what is expected of it, and when a gene counts as moved."""

    perturbation: Perturbation = Field(description="of circles on each slide with test cells")
    expected: dict[str, Call] = Field(min_length=1, description="gene (symbol or id) -> high, low or same")
    near_um: float = Field(60.0, gt=0, description="distance from a circle's rim within which genes are judged")
    fdr: float = Field(0.05, gt=0, lt=1, description="false discovery rate of a call, over all generated genes")
    least_log2fc: float = Field(0.1, ge=0, description="change of the mean, log2, that a call takes at least")
    reference: str | None = Field(None, description="csv with the columns gene and value: a profile to compare with")
    reference_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file")

    @model_validator(mode="after")
    def _a_reference_is_known(self) -> Params:
        if (self.reference is None) != (self.reference_sha256 is None):
            raise ValueError("reference and reference_sha256 belong together")
        return self


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Judge the rings that a model generated around changed circles.

    Raises:
        InputError: they were generated under other settings, an expected gene is not generated, or no cell is near a
            circle.
    """
    from threadpoolctl import threadpool_limits

    from mistline.tasks.perturbation_rows import control_rows, model_rows, settings_of

    with threadpool_limits(limits=1, user_api="blas"):  # sums of float32 must not depend on the number of threads
        rows = control_rows(params) if inputs.is_controls else model_rows(inputs.perturbed(), params)
    settings = {**params.model_dump(mode="json"), "protocol": PROTOCOLS[protocol], **settings_of(params)}
    return Scores("gene", len(params.expected), rows, settings)
