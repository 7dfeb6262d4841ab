"""What models are judged on; reads files, never models.

A task is one module that offers

* `PROTOCOLS`: name -> what it does, in a sentence;
* `NEEDS_LABELS`: whether it can run only where slides have labels;
* `JUDGES`: what of a model it can judge: its `embedding`, `prediction`s that the model is trained for, or both; or
  `images` that it draws, and then the real ones are given too; or `cells` that it generates where some are hidden;
  or `genes` that it imputes while they are closed;
* `WITHOUT_LABELS`: only where some protocols show no label to train on; those judge embeddings only;
* `held_out(params)`: only where some protocols test cells of the dataset's test split and no others: these;
  an embedding that was trained on labels is judged by them alone;
* `Params`: its settings (a strict `Section`);
* `folds(cells, params, protocol) -> DataFrame`, only where it divides the cells itself;
* `evaluate(inputs, params, protocol) -> Scores`, of a model, or of the controls where `inputs.is_controls`.

Its top level imports nothing heavier than numpy: a dry run reads `Params` and `PROTOCOLS` from it.
"""

from __future__ import annotations

REGISTRY = {
    "annotation": "mistline.tasks.annotation",
    "biomarker": "mistline.tasks.biomarker",
    "clustering": "mistline.tasks.clustering",
    "composition": "mistline.tasks.composition",
    "crossmodal": "mistline.tasks.crossmodal",
    "domains": "mistline.tasks.domains",
    "expression": "mistline.tasks.expression",
    "generation": "mistline.tasks.generation",
    "imputation": "mistline.tasks.imputation",
    "perturbation": "mistline.tasks.perturbation",
    "retrieval": "mistline.tasks.retrieval",
    "unseen_generation": "mistline.tasks.unseen_generation",
}
