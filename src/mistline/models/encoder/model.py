"""A frozen image encoder: every cell is what a network of timm makes of its image, or of its tile's.

Nothing is fitted. Images go through the network in groups of a fixed number, in the order of the source and the last
one filled up with black, so that neither reading nor the end of a slide changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Block, Context, Needs, Source
from mistline.models.encoder import network
from mistline.models.encoder.params import Params

_GROUP = 32
_CELL = "cell"


class Model:
    """See `mistline.models.contract.Model`.

    Args:
        params: settings.
        net: the network.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, params: Params, net: nn.Module) -> None:
        self.params = params
        self._net = net

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return the model with weights from the file, or drawn by the seed of the run."""
        del source
        return cls(params, network.create(params, derive(context.seed, "encoder", "weights")))

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return the model with these weights."""
        del genes
        return cls(params, network.empty(params, arrays))

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train nothing; say where the weights are from."""
        del context
        origin = "random initialisation" if self.params.weights is None else f"file {self.params.weights_sha256}"
        yield {"step": 0, "n_train": train.count(), "n_val": val.count(), "trained": "nothing", "weights": origin}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all weights and running statistics of the network."""
        return {name: value.cpu().numpy() for name, value in self._net.state_dict().items()}

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Encode every image of the slide; at a grid scale, every tile once."""
        self._net.to(context.device)
        encoded = self._encoded(slide, context.device)
        if self.params.scale == _CELL:
            for ids, z in encoded:
                yield Block(ids, z, {})
            return
        tiles: dict[str, NDArray[np.float32]] = {}
        for ids, z in encoded:
            tiles |= zip(ids, z, strict=True)
        for batch in slide.batches(Needs(batch_size=self.params.batch_size)):
            names = batch.tiles[self.params.scale]
            yield Block(batch.record_id, np.stack([tiles[name] for name in names]), {})

    def _encoded(self, slide: Source, device: str) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """Yield (ids, [n, D]) of all records of the scale, `_GROUP` at a time."""
        needs = Needs(self.params.scale, image_size=self.params.image_size, batch_size=self.params.batch_size)
        ids: list[str] = []
        images = torch.zeros(0)
        for batch in slide.batches(needs):
            if batch.image is None:
                raise InputError("the slides", "they have no images, and the encoder reads some", "leave it out")
            images = torch.cat([images, batch.image]) if ids else batch.image
            ids += batch.record_id
            while len(ids) >= _GROUP:
                yield ids[:_GROUP], self._features(images[:_GROUP], device)
                ids, images = ids[_GROUP:], images[_GROUP:]
        if ids:
            black = images.new_zeros(_GROUP - len(ids), *images.shape[1:])
            yield ids, self._features(torch.cat([images, black]), device)[: len(ids)]

    def _features(self, image: Tensor, device: str) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [self._net(part) for part in network.inputs(image.to(device), self.params)]
        found: NDArray[np.float32] = torch.cat([part.flatten(1).float() for part in parts], dim=1).cpu().numpy()
        return found
