"""Principal components of log-normalised counts of the genes that every slide measures.

Counts of a cell are scaled to the median depth of the training cells, then log1p; values that a table gives as
normalised are only logged, log values are taken as they are. Depth, mean and axes are fitted on training cells only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Block, Context, Needs, Source
from mistline.models.moments import Components, Moments
from mistline.models.pca.params import Params
from mistline.models.sampling import drawn

VALUES = ("counts", "normalised", "log")  # positions are stored with the weights


class Model:
    """See `mistline.models.contract.Model`.

    Args:
        params: settings.
        genes: ids it reads.
    """

    def __init__(self, params: Params, genes: tuple[str, ...]) -> None:
        self.params = params
        self.genes = genes
        self._needs = Needs(genes="dense", batch_size=params.batch_size)
        self._depth = 1.0
        self._values = "counts"
        self._components: Components | None = None

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Read the genes that are measured on every slide."""
        del context
        if not source.common_genes:
            raise InputError("dataset", "no gene is measured on every slide", "train on slides of one panel")
        model = cls(params, source.common_genes)
        model._values = source.values
        return model

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return the trained model."""
        model = cls(params, genes)
        model._depth = float(arrays["depth"][0])
        model._values = VALUES[int(arrays["values"][0])]
        model._components = Components(arrays["mean"], arrays["scale"], arrays["axes"], arrays["share"])
        return model

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Pass twice over (at most `max_fit_cells`) training cells: depth, then moments."""
        seed = derive(context.seed, "pca", "fit")
        columns = self._columns(train)

        def batches() -> Iterator[Batch]:
            return drawn(train, self._needs, self.params.max_fit_cells, seed)

        totals = [_counts(batch, columns).sum(axis=1) for batch in batches()]
        if not totals:
            raise InputError("training cells", "there is none", "look at splits.json")
        self._depth = max(float(np.median(np.concatenate(totals))), 1.0)
        moments = Moments(len(self.genes))
        for batch in batches():
            moments.add(self._log(_counts(batch, columns)))
        self._components = moments.components(self.params.n_components)
        yield {
            "step": 1,
            "n_train": moments.n,
            "n_val": val.count(),
            "explained_variance": float(self._components.share.sum()),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return depth, kind of values, mean, scale, axes and share."""
        fitted = self._fitted()
        return {
            "depth": np.array([self._depth]),
            "values": np.array([VALUES.index(self._values)]),
            "mean": fitted.mean,
            "scale": fitted.scale,
            "axes": fitted.axes,
            "share": fitted.share,
        }

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Project every cell."""
        del context
        columns, fitted = self._columns(slide), self._fitted()
        for batch in slide.batches(self._needs):
            yield Block(batch.record_id, fitted.project(self._log(_counts(batch, columns))), {})

    def _fitted(self) -> Components:
        if self._components is None:
            raise RuntimeError("the model is not trained: call fit or restore first")
        return self._components

    def _columns(self, source: Source) -> NDArray[np.int64]:
        place = {gene: i for i, gene in enumerate(source.genes)}
        missing = [gene for gene in self.genes if gene not in place]
        if missing:
            what = f"{len(missing)} genes of the model are not in its vocabulary, such as {missing[0]}"
            raise InputError("dataset", what, "train the model on this dataset")
        return np.array([place[gene] for gene in self.genes], dtype=np.int64)

    def _log(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._values == "log":
            return counts
        if self._values == "normalised":
            return np.log1p(counts)
        totals = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return np.log1p(counts * (self._depth / totals))


def _counts(batch: Batch, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [B, G] counts of the model's genes."""
    if batch.genes is None:
        raise RuntimeError("the source gave no dense counts although they were asked for")
    return batch.genes.numpy()[:, columns].astype(np.float64)
