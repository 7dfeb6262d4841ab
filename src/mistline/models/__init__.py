"""The registry of models; listing it imports no torch.

A model is a folder that offers

* `params.py`: `Params`, its settings (a strict `Section`), torch-free; where they differ from the usual, methods
  say what the model `serves()` (an embedding, or predictions it is trained for task by task), what it `reads()`
  of a dataset (genes, image, coordinates), the `files()` it needs besides and the runs `upstream()` whose embeddings
  it builds on;
* `model.py`: `Model`, as `models/contract.py` describes it (`peer` has none: published methods run elsewhere);
* `README.md`: what it is, in a page.
"""

from __future__ import annotations

REGISTRY = {
    "pca": "mistline.models.pca",
    "image": "mistline.models.image",
    "encoder": "mistline.models.encoder",
    "fusion": "mistline.models.fusion",
    "peer": "mistline.models.peer",
}
