"""The registered model: see `mistline.models.contract.Trainable`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.config.base import validate
from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Block, Context, Needs, Recipe, Source
from mistline.models.spatia import card, embedding, pretrained
from mistline.models.spatia.class_heads import Classes, numbers, read_classes
from mistline.models.spatia.gene_table import read_positions, read_vectors
from mistline.models.spatia.inputs import Inputs, around, records
from mistline.models.spatia.network import Given, Network
from mistline.models.spatia.params import Params
from mistline.models.spatia.start import BATCHES, CELLS, centre
from mistline.models.weights import fill

logger = logging.getLogger("mistline.models")

_ABOUT = "about"  # stored beside the weights: what shapes do not tell
_VECTORS, _POSITIONS = "genes.table.vectors", "genes.table.positions"
_NEW = ("image.side.", "image.scale", "image.channels.")  # of the image encoder: in no file of weights
_EMBEDDINGS = ("learned", "absent", "empty", "cls_token", "mask_token", "scale", "level", "query", "base")


class Model:
    """See `mistline.models.contract.Trainable`.

    Args:
        params: settings.
        genes: ids of the vocabulary.
        channels: of the images, by name.
        given: what the network is made for.
    """

    def __init__(self, params: Params, genes: tuple[str, ...], channels: tuple[str, ...], given: Given) -> None:
        self.params, self.genes, self.channels = params, genes, channels
        self.classes = given.classes
        self.net = Network(params, given)
        self._panel: dict[str, int] = {}
        self._unknown: dict[str, int] = {}

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return an untrained model; its image encoder has the weights of the file, if the settings name one.

        Raises:
            InputError: the source lacks what the model reads, or a file does not fit.
        """
        reads_genes, reads_image = ("genes" in params.modalities, "image" in params.modalities)
        if reads_genes and not source.genes:
            raise InputError("the slides", "they have no genes, and the model reads genes", "choose preset no_genes")
        if reads_genes and source.values != "counts":
            what = f"their values are {source.values}, and the model's loss is one of counts"
            raise InputError("the slides", what, "give tables of raw counts")
        if reads_image and not source.channels:
            what = "they have no images, and the model reads images"
            raise InputError("the slides", what, "choose preset gene_only")
        genes = tuple(source.genes) if reads_genes else ()
        channels = tuple(source.channels) if reads_image else ()
        vectors = positions = None
        if params.gene_vectors is not None and reads_genes:
            vectors = read_vectors(Path(params.gene_vectors), genes, params.width, params.min_mapped)
        if params.gene_positions is not None and reads_genes:
            positions = read_positions(Path(params.gene_positions), genes)
        classes = read_classes(source, params.class_heads, params.class_parents)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "spatia", "weights"))
            model = cls(params, genes, channels, Given(len(genes), len(channels), vectors, positions, classes))
        if params.image_weights is not None and model.net.image is not None:
            path, sha256 = Path(params.image_weights), str(params.image_weights_sha256)
            pretrained.load(path, sha256, model.net.image, model.net.losses.decoder)
        model._set_panels(source)
        model._set_known(source, vectors)
        model._start(source, derive(context.seed, "spatia", "start"))
        return model

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return a trained model from what `arrays` gave.

        Raises:
            InputError: the weights are of another number of heads or another vocabulary, or of another network.
        """
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        about = _read_about(weights.pop(_ABOUT, None))
        for name, own in _about(params, genes).items():
            if about.get(name) != own:
                what = f"they are of a model with {name} {about.get(name)}, the settings and genes say {own}"
                raise InputError("weights of spatia", what, "restore them with their own settings, or train again")
        vectors = weights.get(_VECTORS)
        classes = tuple(map(Classes.from_json, about["classes"]))
        vectors = None if vectors is None else vectors[1:]
        given = Given(len(genes), len(about["channels"]), vectors, weights.get(_POSITIONS), classes)
        model = cls(params, genes, tuple(about["channels"]), given)
        fill(model.net, weights, "weights of spatia", "restore them with their own settings, or train again")
        return model

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights, and what their shapes do not tell."""
        made_for = {"channels": list(self.channels), "classes": [own.as_json() for own in self.classes]}
        told = json.dumps({**_about(self.params, self.genes), **made_for}, sort_keys=True).encode()
        found = {name: value.detach().cpu().numpy() for name, value in self.net.state_dict().items()}
        return {**found, _ABOUT: np.frombuffer(told, dtype=np.uint8)}

    def describe(self) -> dict[str, str]:
        """Return what the model card says of it."""
        return card.told(self.params, len(self.genes), self.channels, self._unknown)

    def recipe(self, train: Source) -> Recipe:
        """Return how it is trained on these records."""
        del train
        params = self.params
        return Recipe(
            needs=self._needs(),
            steps=params.steps,
            epochs=params.epochs,
            accumulate=params.accumulate,
            warmup_steps=params.warmup_steps,
            clip=params.clip,
            validate_every=params.validate_every,
            val_batches=params.val_batches,
            save_every=params.save_every,
            patience=params.patience,
        )

    def groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters by learning rate, those of norms, biases and embeddings without decay."""
        params = self.params
        found: dict[tuple[float, float], list[Tensor]] = {}
        for name, value in self.net.named_parameters():
            if not value.requires_grad:
                continue
            is_given = params.image_weights is not None and name.startswith("image.") and not name.startswith(_NEW)
            rate = params.pretrained_rate if is_given else params.learning_rate
            is_plain = value.ndim < 2 or any(part in _EMBEDDINGS for part in name.split("."))
            found.setdefault((rate, 0.0 if is_plain else params.weight_decay), []).append(value)
        return [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in found.items()]

    def prepare(self, batch: Batch, device: str) -> Inputs:
        """Return a batch as the network takes it, on the device."""
        params, classes = self.params, numbers(batch, self.classes)
        cells = records(batch, self._panels_of(batch))
        if "niche" not in params.levels:
            return Inputs(cells, classes=classes).to(device)
        tissue = params.tissue if "tissue" in params.levels else None
        panel = [self._panels_of(batch.context[scale].tiles) for scale in (params.niche, tissue) if scale is not None]
        return Inputs(cells, **around(batch, params.niche, tissue, panel), classes=classes).to(device)

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Yield every cell of the slide, in the order of the source: `z`, and as parts what it is made of.

        Raises:
            InputError: the slide's channels are others, or the model knows too few of its genes.
        """
        yield from self._embed(self.params, slide, context)

    def embed_as(self, slide: Source, context: Context, reading: Literal["all", "genes"]) -> Iterator[Block]:
        """Yield every cell as `embed` does.

        Args:
            slide: the slide.
            context: see `embed`.
            reading: `all`, what the settings say; `genes`, from genes alone at every level, with the same weights.

        Raises:
            ConfigError: the model reads no genes, or is a control of both modalities.
            InputError: see `embed`.
        """
        params = self.params
        if reading == "genes":
            params = validate(Params, {**params.model_dump(), "embed_from": "genes"}, "settings of spatia")
        yield from self._embed(params, slide, context)

    def _embed(self, params: Params, slide: Source, context: Context) -> Iterator[Block]:
        place = self.place(slide) if params.embeds("genes") else None
        if params.embeds("image") and tuple(slide.channels) != self.channels:
            what = f"its channels are {', '.join(slide.channels) or 'none'}, the model's {', '.join(self.channels)}"
            raise InputError("the slide", what, "embed slides of the channels the model was trained on")
        self.net.to(context.device)
        yield from embedding.embed(self.net, slide, embedding.Reading(params, place, context))

    def place(self, slide: Source) -> Tensor | None:
        """Return int64 [G] of a slide's genes in the vocabulary, -1 for unknown ones; None where they are the same.

        Raises:
            InputError: the model knows too few of them.
        """
        number = {gene: place for place, gene in enumerate(self.genes)}
        place = torch.tensor([number.get(gene, -1) for gene in slide.genes], dtype=torch.int64)
        place[~self.net.known.cpu()[place] | (place < 0)] = -1
        for name in slide.slides:
            self._count_unknown(name, (place >= 0).numpy()[slide.panels[name]])
        return None if torch.equal(place, torch.arange(len(self.genes))) else place

    def _needs(self) -> Needs:
        params = self.params
        context: tuple[tuple[str, int | None], ...] = ()
        image = params.image_size if "image" in params.modalities else None
        if "niche" in params.levels:
            context = ((params.niche, image),)
        if "tissue" in params.levels:
            context = (*context, (params.tissue, image if params.tissue_image else None))
        return Needs(
            image_size=image,
            genes="sparse" if "genes" in params.modalities else None,
            batch_size=params.train_batch,
            group=context[-1][0] if context else None,
            context=context,
        )

    def _start(self, source: Source, seed: int) -> None:
        """Begin where the embeddings of training cells differ; see `start.centre`."""
        needs = replace(self._needs(), batch_size=max(min(CELLS, source.count()), 1))
        sample = [self.prepare(batch, "cpu") for batch in islice(source.batches(needs, shuffle=seed), BATCHES)]
        if sample:
            centre(self.net, sample)

    def _set_panels(self, source: Source) -> None:
        """Learn what each slide measured; one that is not known is taken to have measured the common genes."""
        panels = source.panels
        common = np.isin(np.array(self.genes, dtype=object), np.array(source.common_genes, dtype=object))
        measured = [common, *(np.asarray(panels[slide], dtype=bool) for slide in panels)] if self.genes else [common]
        self._panel = {slide: 1 + number for number, slide in enumerate(panels)} if self.genes else {}
        self.net.set_panels(torch.from_numpy(np.stack(measured)))

    def _panels_of(self, batch: Batch) -> Tensor:
        return torch.tensor([self._panel.get(slide, 0) for slide in batch.slide], dtype=torch.int64)

    def _set_known(self, source: Source, vectors: Tensor | None) -> None:
        """Learn which genes have a vector that says something: a training slide measured them, or it was given.

        Raises:
            InputError: a slide of the dataset has too few of them; embedding it would be refused after training.
        """
        if not self.genes:
            return
        known = np.zeros(len(self.genes), dtype=bool)
        for slide in source.slides:
            known |= source.panels[slide]
        if vectors is not None:
            known |= (vectors != 0).any(1).numpy()
        self.net.known.copy_(torch.from_numpy(known))
        for slide, panel in source.panels.items() if self.params.embeds("genes") else ():
            n_unknown = self._count_unknown(slide, known[panel])
            if n_unknown:
                self._unknown[slide] = n_unknown

    def _count_unknown(self, slide: str, known: NDArray[np.bool_]) -> int:
        """Return how many of a slide's genes the model does not know, and say so; `known` is [genes of its panel]."""
        n, n_known = len(known), int(known.sum())
        told = f"the model knows {n_known} of its {n} genes"
        if n_known < self.params.min_overlap * n:
            remedy = "train on slides with these genes, leave this one out, or lower min_overlap"
            raise InputError(f"slide {slide}", f"{told}, fewer than {self.params.min_overlap:.0%}", remedy)
        if n_known < n:
            logger.warning("slide %s: %s; the other %d are left out", slide, told, n - n_known)
        return n - n_known


def _about(params: Params, genes: tuple[str, ...]) -> dict[str, Any]:
    """Return what must be the same when weights are restored, and their shapes do not tell."""
    return {
        "heads": params.heads,
        "image_heads": params.image_heads,
        "vocabulary": hashlib.sha256("\n".join(genes).encode()).hexdigest()[:12],
    }


def _read_about(told: Tensor | None) -> dict[str, Any]:
    if told is None:
        raise InputError("weights of spatia", "they do not tell what they are of", "train again")
    return dict(json.loads(bytes(told.numpy().tobytes())))
