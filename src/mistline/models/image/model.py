"""Principal components of standardised image features; no gene is read.

Features come in groups (`features.py`); each group has the same share of the variance, so that hundreds of
pixels do not outweigh one size. Mean, scale and axes are fitted on training cells only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mistline.core.seeds import derive
from mistline.models.contract import Batch, Block, Context, Needs, Source
from mistline.models.image import features
from mistline.models.image.params import Params
from mistline.models.moments import Components, Moments
from mistline.models.sampling import drawn


class Model:
    """See `mistline.models.contract.Model`.

    Args:
        params: settings.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, params: Params) -> None:
        self.params = params
        self._needs = Needs(image_size=params.image_size, batch_size=params.batch_size)
        self._components: Components | None = None

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return an untrained model; any channels will do."""
        del source, context
        return cls(params)

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return the trained model."""
        del genes
        model = cls(params)
        model._components = Components(arrays["mean"], arrays["scale"], arrays["axes"], arrays["share"])
        return model

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Pass once over (at most `max_fit_cells`) training cells."""
        moments: Moments | None = None
        weight = np.ones(0)
        for batch in drawn(train, self._needs, self.params.max_fit_cells, derive(context.seed, "image", "fit")):
            parts = self._groups(batch)
            if moments is None:
                weight = np.concatenate([np.full(part.shape[1], part.shape[1] ** -0.5) for part in parts])
                moments = Moments(len(weight))
            moments.add(np.concatenate(parts, axis=1))
        moments = moments or Moments(1)  # of no cell: refused below
        self._components = moments.components(self.params.n_components, weight)
        yield {
            "step": 1,
            "n_train": moments.n,
            "n_val": val.count(),
            "explained_variance": float(self._components.share.sum()),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return mean, scale, axes and share."""
        fitted = self._fitted()
        return {"mean": fitted.mean, "scale": fitted.scale, "axes": fitted.axes, "share": fitted.share}

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Project every cell."""
        del context
        fitted = self._fitted()
        for batch in slide.batches(self._needs):
            yield Block(batch.record_id, fitted.project(np.concatenate(self._groups(batch), axis=1)), {})

    def _fitted(self) -> Components:
        if self._components is None:
            raise RuntimeError("the model is not trained: call fit or restore first")
        return self._components

    def _groups(self, batch: Batch) -> list[NDArray[np.float32]]:
        if batch.image is None:
            raise RuntimeError("the source gave no image although it was asked for")
        with torch.inference_mode():
            return [part.numpy() for part in features.groups(batch.image, batch.side_um, self.params.window_um)]
