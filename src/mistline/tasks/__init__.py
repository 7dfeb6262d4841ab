"""What models are judged on; reads files, never models.

A task is one module that offers

* `PROTOCOLS`: name -> what it does, in a sentence;
* `NEEDS_LABELS`: whether it can run only where slides have labels;
* `Params`: its settings (a strict `Section`);
* `evaluate(inputs, params, protocol) -> Scores`.

Its top level imports nothing heavier than numpy: a dry run reads `Params` and `PROTOCOLS` from it.
"""

from __future__ import annotations

REGISTRY = {
    "clustering": "mistline.tasks.clustering",
}
