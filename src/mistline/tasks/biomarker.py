"""Does the tissue of a patient tell the diagnosis? Logistic regression on a donor's mean embedding, nested.

Everything fitted (scaling, components, the penalty) sees the training donors of a fold only. The embedding itself
was made without the target, but the model may have been trained on cells of any donor; the result says so.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mistline.tasks.base import Inputs, Scores, TaskParams

# What needs scikit-learn, scipy or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = False
JUDGES = frozenset(["embedding"])
PROTOCOLS = {
    "nested_cv": "repeated cross-validation over donors, stratified by the target; the penalty is chosen by another "
    "one within the training donors"
}


class Params(TaskParams):
    """What is predicted of a patient, and how donors are divided."""

    target: str = Field(
        "disease", min_length=1, description="`disease` of the slide sheet, or a column of labels, constant in a donor"
    )
    positive: tuple[str, ...] = Field(
        (), description="values that count as positive; none: the second of two, `healthy` being the first"
    )
    negative: tuple[str, ...] = Field((), description="values that count as negative; none: all others")
    per: Literal["donor", "slide"] = Field("donor", description="what is pooled; folds keep a donor's slides together")
    folds: int = Field(5, ge=2, description="of the outer cross-validation; each class needs twice as many donors")
    inner_folds: int = Field(3, ge=2, description="of the inner one")
    repeats: int = Field(5, ge=1, description="divisions into folds")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Predict every donor out of fold, and score.

    Raises:
        ConfigError: no slide has the target's label column, or its values leave it open what is positive.
        InputError: a donor of two values, or too few donors of a class.
    """
    from mistline.tasks.biomarker_cv import PENALTIES, divide
    from mistline.tasks.biomarker_items import gather
    from mistline.tasks.biomarker_rows import left_out, rows_of

    cohort = gather(inputs, params)
    division = divide(cohort.positive, cohort.donor, params)
    rows = rows_of(inputs, cohort, division, params)
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "classes": {"positive": list(cohort.values[True]), "negative": list(cohort.values[False])},
        f"n_{params.per}s": {"positive": int(cohort.positive.sum()), "negative": int((~cohort.positive).sum())},
        "n_without_target": cohort.n_without_target,
        "pooled": f"mean over all cells of a {params.per}",
        "classifier": f"L2 logistic regression on standardised features, classes weighted alike; C among {PENALTIES}",
        "auc": "over pairs of a positive and a negative of one test fold, for folds have models of their own",
        "interval": "intervals resample donors; the folds' models are held fixed",
        "seen": "an embedding may come from a model that was trained, without the target, on cells of any donor",
        "left_out": left_out(inputs, cohort) if inputs.is_controls else {},
    }
    return Scores("donor", len(cohort.items), rows, settings)
