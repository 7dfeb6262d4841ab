"""A graph auto-encoder: an embedding trained without labels, by giving back the genes it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Block, Context, Needs, Source
from mistline.models.fusion.cells import Cells, Features
from mistline.models.fusion.graph import Places
from mistline.models.fusion.network import Network, Sizes
from mistline.models.fusion.objectives import Reconstruction
from mistline.models.fusion.params import Params
from mistline.models.fusion.preprocess import Scaler, choose_genes, fit_scaler, log_rows, select, stack
from mistline.models.fusion.training import Part, outputs_of, train

_NEEDS = Needs(genes="sparse", batch_size=4096)
_BLOCK = 4096
_OWN = ("mean", "spread")  # stored beside the weights


class Autoencoder:
    """See `mistline.models.contract.Model`.

    Args:
        params: settings.
        genes: ids it reads; chosen by `fit`.
    """

    def __init__(self, params: Params, genes: tuple[str, ...] = ()) -> None:
        self.params = params
        self.genes = genes
        self._network: Network | None = None
        self._scaler: Scaler | None = None

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Autoencoder:
        """Return an untrained model; its genes are chosen among those measured on every slide."""
        del context
        if not source.common_genes:
            raise InputError("dataset", "no gene is measured on every slide", "train on slides of one panel")
        return cls(params)

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Autoencoder:
        """Return the trained model."""
        model = cls(params, genes)
        model._scaler = Scaler(arrays["mean"], arrays["spread"], params.clip)
        model._network = Network(params, model._sizes())
        weights = {name: torch.from_numpy(values.copy()) for name, values in arrays.items() if name not in _OWN}
        model._network.load_state_dict(weights)
        return model

    def fit(self, train_part: Source, val_part: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train on the training cells; their graph joins training cells only. Yields the course when it is done."""
        params = self.params
        read = _read(train_part, params)
        if read is None:
            raise InputError("training cells", "there is none", "look at splits.json")
        columns = choose_genes(read.rows, params.n_genes, params.min_cells)
        self.genes = tuple(train_part.common_genes[i] for i in columns.tolist())
        self._scaler = fit_scaler([select(read.rows, columns)], params.clip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "fusion", "weights"))
            self._network = Network(params, self._sizes()).to(context.device)
        cells = self._cells(read, train_part)
        held = _read(val_part, params)
        nothing = Part(cells, np.empty(0, dtype=np.int64))
        val = nothing if held is None else _all(self._cells(held, val_part))
        yield from train(self._network, (_all(cells), val), Reconstruction(), params, context)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the network's weights, and mean and spread of the genes."""
        network, scaler = self._fitted()
        weights = {name: values.detach().cpu().numpy() for name, values in network.state_dict().items()}
        return {**weights, "mean": scaler.mean, "spread": scaler.spread}

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Yield every cell; the slide's graph joins all its cells."""
        network, _ = self._fitted()
        read = _read(slide, self.params)
        if read is None:
            return
        network.to(context.device)
        found = np.zeros((len(read.cell_id), self.params.n_components), dtype=np.float32)
        for chosen, outputs in outputs_of(network, _all(self._cells(read, slide)), context.device, "code"):
            found[chosen] = outputs.cpu().numpy()
        for start in range(0, len(found), _BLOCK):
            yield Block(read.cell_id[start : start + _BLOCK], found[start : start + _BLOCK], {})

    def _fitted(self) -> tuple[Network, Scaler]:
        if self._network is None or self._scaler is None:
            raise RuntimeError("the model is not trained: call fit or restore first")
        return self._network, self._scaler

    def _sizes(self) -> Sizes:
        return Sizes(len(self.genes), 0, 0, len(self.genes))

    def _cells(self, read: _Read, source: Source) -> Cells:
        """Return what was read as the network reads it."""
        place = {gene: number for number, gene in enumerate(source.common_genes)}
        missing = [gene for gene in self.genes if gene not in place]
        if missing:
            what = f"{len(missing)} genes of the model are not on every slide, such as {missing[0]}"
            raise InputError("dataset", what, "train the model on this dataset")
        rows = select(read.rows, [place[gene] for gene in self.genes])
        scaler = self._scaler
        if self.params.scaling == "slide":
            ends = np.cumsum([0, *(len(places.xy_um) for places in read.places)])
            slides = [rows[low:high] for low, high in pairwise(ends)]
            scaler = fit_scaler(slides, self.params.clip)
        return Cells(self.params, read.places, Features(rows, scaler))


@dataclass(frozen=True, slots=True)
class _Read:
    """A source in memory: ids, logged rows [n, common genes] and places, slide after slide."""

    cell_id: list[str]
    rows: sparse.csr_matrix
    places: list[Places]


def _all(cells: Cells) -> Part:
    return Part(cells, np.arange(len(cells)))


def _read(source: Source, params: Params) -> _Read | None:
    """Read a source; None where it has no cell."""
    place = {gene: number for number, gene in enumerate(source.genes)}
    columns = [place[gene] for gene in source.common_genes]
    ids: list[str] = []
    slides: list[str] = []
    parts, xy = [], []
    for batch in source.batches(_NEEDS):
        index, value, offset = (np.asarray(part) for part in (batch.gene_index, batch.gene_count, batch.gene_offset))
        wide = (value.astype(np.float32), index, offset)
        rows = sparse.csr_matrix(wide, shape=(len(batch.record_id), len(source.genes)))
        parts.append(select(rows, columns))
        ids += batch.record_id
        slides += batch.slide
        xy.append(np.asarray(batch.xy_um, dtype=np.float64))
    if not ids:
        return None
    at = np.flatnonzero(np.array(slides[1:]) != np.array(slides[:-1])) + 1
    blocks = np.split(np.concatenate(xy), at)
    names = [slides[i] for i in [0, *at.tolist()]]
    places = [Places(name, block, None) for name, block in zip(names, blocks, strict=True)]
    logged = log_rows(stack(parts), source.values, params.depth)
    return _Read(ids, logged, places)
