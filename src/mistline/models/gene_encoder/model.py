"""A frozen encoder of counts: every cell is what a published foundation model makes of its genes.

Nothing is fitted. Cells go through the network in groups of a fixed number, in the order of the source, so that
neither reading nor threads change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.models.contract import Batch, Block, Context, Needs, Source
from mistline.models.gene_encoder import tokens
from mistline.models.gene_encoder.network import Network, empty, load, pooled
from mistline.models.gene_encoder.params import Params
from mistline.models.gene_encoder.vocabulary import Vocabulary, read_vocabulary

_GROUP = 32
_TABLES = ("vocabulary.token", "vocabulary.median", "vocabulary.special", "vocabulary.n_genes")


class Model:
    """See `mistline.models.contract.Model`.

    Args:
        params: settings.
        net: the network.
        vocabulary: the dataset's genes as its tokens.
    """

    def __init__(self, params: Params, net: Network, vocabulary: Vocabulary) -> None:
        self.params = params
        self.vocabulary = vocabulary
        self.genes = vocabulary.genes
        self._net = net

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return the model with the weights of the files."""
        del context
        vocabulary = read_vocabulary(params, source)
        net = load(params)
        most = int(max(vocabulary.token.max(), *vocabulary.special))
        if most >= net.token.num_embeddings:
            what = f"it has token {most}, and the weights have {net.token.num_embeddings} tokens"
            raise InputError(str(params.vocabulary), what, "give vocabulary and weights of one version")
        return cls(params, net, vocabulary)

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return the model with these weights."""
        given = {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if name not in _TABLES}
        net = empty(params.encoder.reading, given)
        net.load_state_dict(given)
        token, median, special, n_genes = (arrays[name] for name in _TABLES)
        pad, whole, end = (int(value) for value in special)
        return cls(params, net, Vocabulary(genes, token, median, (pad, whole, end), int(n_genes[0])))

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train nothing; say where the weights are from and how many of the dataset's genes they know."""
        del context
        yield {
            "step": 0,
            "n_train": train.count(),
            "n_val": val.count(),
            "trained": "nothing",
            "weights": f"{self.params.preset}, file {self.params.weights_sha256}",
            "genes_mapped": len(self.genes),
            "genes": self.vocabulary.n_genes,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all weights, and the dataset's genes as tokens."""
        found = {name: value.cpu().numpy() for name, value in self._net.state_dict().items()}
        known = self.vocabulary
        special, n_genes = np.array(known.special, dtype=np.int64), np.array([known.n_genes], dtype=np.int64)
        return found | dict(zip(_TABLES, (known.token, known.median, special, n_genes), strict=True))

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Encode every cell of the slide."""
        self._net.to(context.device)
        place = {name: row for row, name in enumerate(slide.genes)}
        absent = [name for name in self.genes if name not in place]
        if absent:
            raise InputError("the slide", f"it has no place for gene {absent[0]}", "train on the dataset it belongs to")
        columns = np.array([place[name] for name in self.genes], dtype=np.int64)
        names: list[tuple[str, str]] = []
        rows: list[NDArray[np.float64]] = []
        for batch in slide.batches(Needs(genes="dense", batch_size=self.params.batch_size)):
            names += zip(batch.slide, batch.record_id, strict=True)
            rows += list(_linear(batch, slide.values))
            while len(names) >= _GROUP:
                yield self._block(names[:_GROUP], np.stack(rows[:_GROUP]), columns, context)
                names, rows = names[_GROUP:], rows[_GROUP:]
        if names:
            yield self._block(names, np.stack(rows), columns, context)

    def _block(
        self,
        names: Sequence[tuple[str, str]],
        counts: NDArray[np.float64],
        columns: NDArray[np.int64],
        context: Context,
    ) -> Block:
        """Encode one group: counts [B, G] of the cells with these names."""
        encoder = self.params.encoder
        length = encoder.max_length or self._net.max_length
        if encoder.reading == "ranks":
            cells = tokens.by_rank(counts[:, columns], counts.sum(1), self.vocabulary, length)
        else:
            cells = tokens.by_bin(counts[:, columns], names, context.seed, self.vocabulary, length)
        given = (torch.from_numpy(array).to(context.device) for array in (cells.token, cells.value, cells.used))
        with torch.inference_mode():
            x = self._net(*given, encoder.layer)
            gene = torch.from_numpy(cells.gene).to(context.device)
            z = pooled(x, gene, whole=self.vocabulary.special[1] >= 0, unit=encoder.reading == "bins")
        return Block([name for _, name in names], z.float().cpu().numpy(), {})


def _linear(batch: Batch, values: str) -> NDArray[np.float64]:
    """Return [B, G] counts, or counts brought to one depth; zeros where a gene was not measured."""
    if batch.genes is None:
        raise InputError("the slides", "they have no counts", "leave the encoder out")
    found: NDArray[np.float64] = batch.genes.numpy().astype(np.float64)
    if values == "log":
        found = np.expm1(found)
    return found if batch.measured is None else np.where(batch.measured.numpy(), found, 0.0)
