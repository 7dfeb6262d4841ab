"""SpaGE (Abdelaal et al. 2020), our own code from its description: PCA of both sides, principal vectors, neighbours.

`n` cells, `m` single cells, `G` genes that both measure, `p` principal components, `q` principal vectors that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.models.borrowing import borrowed, standardised
from mistline.models.contract import Context
from mistline.models.spage.params import Params
from mistline.scrna.view import Imputed, TrainView

_BLOCK = 65_536  # cells whose products are summed at once
_FEWEST = 2  # genes and cells of which principal components say something


class Model:
    """See `mistline.models.imputer.Imputer`.

    Args:
        params: settings.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self._vectors: NDArray[np.float32] | None = None

    @classmethod
    def create(cls, params: Params, view: TrainView, context: Context) -> Model:
        """Return an unfitted model."""
        del context
        for what, n in (
            ("genes", len(view.genes)),
            ("cells", len(view.cell_id)),
            ("single cells", len(view.reference)),
        ):
            if n < _FEWEST:
                raise InputError(f"slide {view.slide}", f"{n} {what}, and SpaGE needs {_FEWEST}", "leave it out")
        return cls(params)

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Find the directions in which both sides vary alike; it has no use for validation genes apart from others."""
        del context
        # As many components as the smaller side can have: its centred cells span one direction fewer than they are.
        most = min(len(view.genes), len(view.cell_id) - 1, len(view.reference) - 1)
        p = min(self.params.n_components, most)
        single, cells = (components(standardised(side), p) for side in (view.reference, view.spatial))
        turn, cosines, _ = np.linalg.svd(single.T @ cells)
        kept = max(int((cosines > self.params.min_cosine).sum()), 1)
        self._vectors = (single @ turn[:, :kept]).astype(np.float32)
        yield {"step": 1, "components": p, "vectors": kept, "cosine_first": float(cosines[0])}

    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Return the weighted means over neighbours, both sides projected on the single cells' vectors."""
        del context
        if self._vectors is None:
            raise RuntimeError("the model is not fitted: call fit first")
        cells, single = (standardised(side) @ self._vectors for side in (view.spatial, view.reference))
        return Imputed(borrowed(cells, single, view.wanted_reference, self.params.neighbours))


def components(values: NDArray[np.float32], p: int) -> NDArray[np.float64]:
    """Return float64 [G, p], the first principal components of standardised values [n, G], largest variance first."""
    products = np.zeros((values.shape[1],) * 2)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        products += block.T @ block
    _, axes = np.linalg.eigh(products)
    return np.asarray(axes[:, ::-1][:, :p])
