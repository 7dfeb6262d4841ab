"""The registry of models; listing it imports no torch.

A model is a folder that offers

* `params.py`: `Params`, its settings (a strict `Section`), torch-free; where they differ from the usual, methods
  say what the model `serves()` (an embedding, predictions it is trained for task by task, latents of images,
  images, cells at places where none were measured, or genes that a slide did not measure), what it `reads()` of a
  dataset (genes, image, coordinates), the `files()` it needs besides and the runs `upstream()` whose embeddings it
  builds on; one that draws images names its `condition` and its `autoencoder`, and `niche` the run it begins with, its
  `start`;
* `model.py`: `Model`, as `models/contract.py` describes it, or, for predictions, `models/predictor.py`, or, for genes,
  `models/imputer.py` (`peer` has none: published methods run elsewhere);
* `README.md`: what it is, in a page.
"""

from __future__ import annotations

REGISTRY = {
    "pca": "mistline.models.pca",
    "image": "mistline.models.image",
    "encoder": "mistline.models.encoder",
    "gene_encoder": "mistline.models.gene_encoder",
    "fusion": "mistline.models.fusion",
    "spatia": "mistline.models.spatia",
    "vae": "mistline.models.vae",
    "diffusion": "mistline.models.diffusion",
    "flow": "mistline.models.flow",
    "gest": "mistline.models.gest",
    "niche": "mistline.models.niche",
    "spage": "mistline.models.spage",
    "stplus": "mistline.models.stplus",
    "peer": "mistline.models.peer",
    "spadit": "mistline.models.spadit",
    "stdiff": "mistline.models.stdiff",
}
