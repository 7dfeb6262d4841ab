"""The registered model: see `mistline.models.contract.Trainable`.

A record of the training is the cell at the centre of a window. The other cells of the window come from what the model
holds of the part that the record is of: places and meta-cells of all its cells. So windows of training cells hold
training cells alone, and those of validation cells none of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.core.seeds import derive, generator
from mistline.models import weights
from mistline.models.contract import Batch, Block, Context, Needs, Recipe, Source
from mistline.models.gest import codes
from mistline.models.gest import vocabulary as metacells
from mistline.models.gest.codes import Code, ProfileCode
from mistline.models.gest.embedding import Niche, embed, ordered
from mistline.models.gest.network import Inputs, Network, Sizes
from mistline.models.gest.params import Params
from mistline.models.gest.reading import Reader, Slide
from mistline.models.gest.serialise import Serialisation
from mistline.models.gest.windows import Cells, Windows, around, seen_and_asked, waste

logger = logging.getLogger("mistline.models")

_ABOUT, _QUERY = "about", "query."  # stored beside the weights
# Settings that shapes of weights do not tell.
_SETTINGS = ("quantised", "copies", "heads", "head", "spatial", "hierarchy", "window_um", "bin_um")
_PLAIN = ("tokens.asked", "code.temperature", "nearby.log_reach")  # not pulled to zero
_CENTRES = 1000  # windows that are looked at before training
_HOW = "give weights.safetensors of a run of gest"
_REMEDY = "restore them with their own settings, or train again"


class Model:
    """See `mistline.models.contract.Trainable`.

    Args:
        params: settings.
        genes: [T] ids.
        code: what a cell is to the network.
        query: how a cell is given its content; None where the dataset has done so.
    """

    def __init__(self, params: Params, genes: tuple[str, ...], code: Code, query: metacells.Query | None) -> None:
        self.params, self.query, self.genes = params, query, genes
        order = Serialisation(params.order, params.power, params.random_share)
        self.net = Network(_sizes(params), code, order, params.window_um)
        self.window_um, self.is_quantised = params.window_um, params.quantised
        self.expression = code.answers().numpy()  # [W, T]: what is told of a place are weights of its rows
        self.reader = Reader(genes, len(self.expression) if params.quantised else None, query, params.min_overlap)
        self.told: dict[str, str] = {}
        self._parts: list[Mapping[str, Slide]] = []

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return an untrained model, or one that goes on from `params.start`, that holds the training cells.

        Raises:
            InputError: there are too few cells for meta-cells, no window has enough of them, or the model to go on
                from is another file, of other settings or of other meta-cells.
        """
        if params.start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(context.seed, "gest", "weights"))
                model = cls(params, *codes.fitted(params, source, context.seed))
        else:
            model = cls._started(params, source)
        model._parts.append(model.reader.read(source))
        model._look(derive(context.seed, "gest", "windows"))
        return model

    @classmethod
    def _started(cls, params: Params, source: Source) -> Model:
        """Return the trained model to go on from."""
        path = Path(str(params.start))
        weights.check(path, str(params.start_sha256), "start_sha256", _HOW)
        arrays = {name: value.numpy() for name, value in weights.read(path).items()}
        if _ABOUT not in arrays:
            raise InputError(path, "these are no weights of gest", _HOW)
        model = cls.restore(params, arrays, tuple(json.loads(arrays[_ABOUT].tobytes())["genes"]))
        model._refuse_others(source)
        return model

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return a trained model from what `arrays` gave.

        Raises:
            InputError: the weights are of other settings or of another network.
        """
        where, given = "weights of gest", {name: np.array(value) for name, value in arrays.items()}
        told = given.pop(_ABOUT, None)
        if told is None:
            raise InputError(where, "they do not tell what they are of", "train again")
        about = json.loads(told.tobytes())
        for name, own in _settings(params).items():
            if about["settings"].get(name) != own:
                what = f"they are of a model with {name} {about['settings'].get(name)}, the settings say {own}"
                raise InputError(where, what, _REMEDY)
        asked = {name.removeprefix(_QUERY): given.pop(name) for name in list(given) if name.startswith(_QUERY)}
        tensors = {name: torch.from_numpy(value) for name, value in given.items()}
        code = codes.restored(params, tensors, len(genes))
        model = cls(params, genes, code, metacells.restored(asked) if asked else None)
        weights.fill(model.net, tensors, where, _REMEDY)
        model.net.eval()
        model.told = about["told"]
        return model

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights, the meta-cells, and what shapes do not tell."""
        about = {"settings": _settings(self.params), "told": self.told, "genes": self.genes}
        told = json.dumps(about, sort_keys=True).encode()
        found = {name: value.detach().cpu().numpy() for name, value in self.net.state_dict().items()}
        asked = {} if self.query is None else {_QUERY + name: value for name, value in self.query.arrays().items()}
        return {**found, **asked, _ABOUT: np.frombuffer(told, dtype=np.uint8)}

    def describe(self) -> dict[str, str]:
        """Return what the model card says of it."""
        params, code = self.params, self.net.code
        found = {
            "Network": f"{params.layers} layers, {params.heads} heads, width {params.width}, "
            f"{sum(value.numel() for value in self.net.parameters()):,} weights",
            "Order": f"{params.order}, {params.random_share:.0%} of windows random",
            **self.told,
        }
        if isinstance(code, ProfileCode):
            return {**found, "Cells": f"profiles of {len(self.genes)} genes, without quantisation; squared error"}
        whose = "of the dataset" if self.query is None else "fitted on training cells"
        levels = ", ".join(map(str, code.groups)) or "none"
        return {
            **found,
            "Meta-cells": f"{len(self.expression)} of {len(self.genes)} genes, {whose}; coarser levels of {levels}",
        }

    def recipe(self, train: Source) -> Recipe:
        """Return how it is trained."""
        del train
        params = self.params
        return Recipe(
            needs=Needs(batch_size=params.train_batch),
            steps=params.steps,
            accumulate=params.accumulate,
            betas=(0.9, 0.95),
            warmup_steps=round(params.warmup * params.steps),
            clip=params.clip,
            validate_every=params.validate_every,
            val_batches=params.val_batches,
            save_every=params.save_every,
            patience=params.patience,
        )

    def groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; norms, biases and embeddings are not pulled to zero."""
        found: dict[float, list[Tensor]] = {}
        for name, value in self.net.named_parameters():
            is_plain = value.ndim < 2 or name in _PLAIN
            found.setdefault(0.0 if is_plain else self.params.weight_decay, []).append(value)
        return [{"params": own, "lr": self.params.learning_rate, "weight_decay": decay} for decay, own in found.items()]

    def meet(self, val: Source) -> None:
        """Hold the cells of the validation part as well."""
        self._parts[1:] = [self.reader.read(val)]

    def prepare(self, batch: Batch, device: str) -> Inputs:
        """Return the windows around a batch of cells, on the device; those with too few cells are left out.

        Raises:
            InputError: a cell is of none of the parts that the model holds.
        """
        xy_um, names = batch.xy_um.numpy().astype(np.float64), np.asarray(batch.slide, dtype=object)
        parts = []
        for name in dict.fromkeys(batch.slide):
            for cells, centres in self._held(name, xy_um[names == name]):
                windows = around(cells, centres, self.params.window_um, self.params.max_cells)
                keep = windows.lengths >= self.params.min_cells
                parts.append((cells, centres[keep], windows.kept(keep)))
        return self._packed(parts).to(device)

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Yield every cell of the slide, in the order of the source: its niche, of the cells of the source.

        Raises:
            InputError: the meta-cells of the source are not the model's, or it measured too few of its genes.
        """
        self._refuse_others(slide)
        self.net.to(context.device)
        niche = Niche(self.params.niche_um, self.params.max_cells, self.params.embed_corners)
        for own in self.reader.read(slide).values():
            yield from embed(self.net, own, niche)

    @torch.no_grad()
    def tell(
        self, seen_xy_um: NDArray[np.floating], seen: NDArray[Any], target_xy_um: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return what is expressed at unseen places: float32 [m, K] probabilities of meta-cells, or [m, T] profiles.

        Either way they are weights of the rows of `expression`. The context is read once, and each place is told by
        the whole of it.

        Args:
            seen_xy_um: [n, 2] of the seen cells of a window whose centre is at (0, 0).
            seen: [n] or [n, T], their content.
            target_xy_um: [m, 2].

        Raises:
            InputError: no cell is seen.
        """
        if not len(seen_xy_um):
            raise InputError("context", "no cell is seen", "widen the window")
        self.net.eval()
        cells = Cells(np.asarray(seen_xy_um, dtype=np.float32), seen)
        whole = Windows(np.arange(len(cells)), np.array([len(cells)]))
        order = ordered(cells, whole, np.zeros((1, 2)), self.params.window_um, corner=0)
        given = (cells.xy_um[order], cells.content[order], np.asarray(target_xy_um, dtype=np.float32))
        places, content, asked = (torch.from_numpy(value).to(self._device) for value in given)
        said = self.net.target(self.net.context(places, content), asked)
        return self.net.code.told(said).cpu().numpy()

    def entered(self, told: NDArray[np.floating]) -> NDArray[Any]:
        """Return the content that generated cells are seen with: the likeliest meta-cell, or the profile itself."""
        return told.argmax(axis=1) if self.is_quantised else told.astype(np.float32)

    def cells_of(self, slide: Source) -> Slide:
        """Return the cells of a slide as the model sees them, in the order of the source.

        Raises:
            InputError: see `embed`.
        """
        self._refuse_others(slide)
        (own,) = self.reader.read(slide).values()
        return own

    @property
    def _device(self) -> torch.device:
        return self.net.norm.weight.device

    def _held(self, name: str, xy_um: NDArray[np.float64]) -> Iterator[tuple[Cells, NDArray[np.float64]]]:
        """Yield the cells of each part with those places [B, 2] at which it has one; the first part that does."""
        left = np.ones(len(xy_um), dtype=bool)
        for part in self._parts:
            if name in part and left.any():
                own = left & (part[name].cells.at(xy_um) >= 0)
                left &= ~own
                if own.any():
                    yield part[name].cells, xy_um[own]
        if left.any():
            what = f"{left.sum()} records are of no part of the dataset that this model has read"
            raise InputError(f"slide {name}", what, "train and validate on the parts it was created with")

    def _packed(self, parts: Sequence[tuple[Cells, NDArray[np.float64], Windows]]) -> Inputs:
        """Return the windows of several slides, one after the other."""
        lengths = np.concatenate([windows.lengths for _, _, windows in parts])
        deltas = [cells.xy_um[own.cells] - centres[own.number] for cells, centres, own in parts]
        jitter = [np.full(len(own.lengths), self._jitter_um(cells)) for cells, _, own in parts]
        seen, asked = seen_and_asked(lengths)
        arrays = (
            np.concatenate(deltas).astype(np.float32),
            np.concatenate([cells.content[own.cells] for cells, _, own in parts]),
            np.repeat(np.arange(len(lengths)), lengths),
            np.concatenate(jitter).astype(np.float32),
            seen,
            asked,
        )
        return Inputs(*map(torch.from_numpy, arrays), tuple(lengths.tolist()))

    def _jitter_um(self, cells: Cells) -> float:
        return 2 * cells.spacing_um if self.params.jitter_um is None else self.params.jitter_um

    def _look(self, seed: int) -> None:
        """Learn how large windows are, and say so.

        Raises:
            InputError: none of those looked at has enough cells.
        """
        slides = [own.cells for own in self._parts[0].values()]
        total = sum(map(len, slides))
        lengths = np.empty(0, dtype=np.int64)
        for number, cells in enumerate(slides):
            n = -(-_CENTRES * len(cells) // total)
            rows = generator(seed, number).choice(len(cells), min(n, len(cells)), replace=False)
            found = around(cells, cells.xy_um[rows].astype(np.float64), self.params.window_um, self.params.max_cells)
            lengths = np.concatenate([lengths, found.lengths])
        is_small = lengths < self.params.min_cells
        if is_small.all():
            what = f"none of {len(lengths)} windows of {self.params.window_um:g} um has {self.params.min_cells} cells"
            raise InputError("training cells", what, "raise window_um, or lower min_cells")
        told = f"{self.params.window_um:g} um, {lengths.mean():.0f} cells in the mean"
        if is_small.any():
            told += f"; {is_small.mean():.1%} have fewer than {self.params.min_cells} and are left out"
        self.told = {"Windows": f"{told}; packed: no padding (of windows padded to the longest {waste(lengths):.0%})"}
        logger.info("windows: %s", self.told["Windows"])

    def _refuse_others(self, slide: Source) -> None:
        other = slide.vocabulary
        if self.query is None and other is not None and not np.array_equal(other.expression, self.expression):
            what = "its meta-cells are not those that the model was trained with"
            raise InputError("dataset", what, "use the model with the dataset it was trained on")


def _sizes(params: Params) -> Sizes:
    told = (params.step_um, params.spatial, params.turns, params.copies)
    return Sizes(params.width, params.layers, params.heads, params.dropout, *told)


def _settings(params: Params) -> dict[str, Any]:
    """Return settings that must be the same when weights are restored."""
    return {name: value for name, value in params.model_dump(mode="json").items() if name in _SETTINGS}
