"""What `impute_folds` and `impute_slide` give to every registered model that imputes genes, and ask of it.

No torch is imported here. A model's `params.py` says `serves() -> frozenset(["genes"])`; its `model.py` offers a
class `Model` with the members below. It is fitted anew for each slide and each fold of genes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mistline.models.contract import Context
from mistline.scrna.view import Imputed, TrainView


class Imputer(Protocol):
    """A registered model whose params serve genes."""

    @classmethod
    def create(cls, params: Any, view: TrainView, context: Context) -> Imputer:
        """Return an unfitted model for this pair.

        Raises:
            InputError: the pair is too small for its settings.
        """
        ...

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Fit, and yield the rows of the course as they come, without clock times; none where nothing is fitted."""
        ...

    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Return the wanted genes of all cells of the view. The same view and seed give the same bytes."""
        ...
