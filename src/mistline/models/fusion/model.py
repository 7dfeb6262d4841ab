"""The registered model: a classifier trained fold by fold, or an embedding, by the objective of its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Context
from mistline.models.contract import Model as Embedder
from mistline.models.fusion.cells import Cells, Features
from mistline.models.fusion.embedder import Autoencoder
from mistline.models.fusion.graph import Places
from mistline.models.fusion.network import Network, Sizes
from mistline.models.fusion.objectives import Labels, class_weights
from mistline.models.fusion.params import Params
from mistline.models.fusion.preprocess import Scaler, choose_genes, fit_scaler, log_rows, select, stack
from mistline.models.fusion.training import Part, outputs_of, train
from mistline.models.predictor import Predictor, Problem, SlideCells


class Model:
    """Makes the model that the settings ask for; see `Classifier` and `embedder.Autoencoder`."""

    @classmethod
    def create(cls, params: Params, given: Any, context: Context) -> Predictor | Embedder:
        """Return an untrained model for a problem (objective labels) or a source (reconstruction)."""
        if params.objective == "labels":
            return Classifier.create(params, given, context)
        return Autoencoder.create(params, given, context)

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Embedder:
        """Return a trained embedding."""
        return Autoencoder.restore(params, arrays, genes)


class Classifier:
    """See `mistline.models.predictor.Predictor`.

    Args:
        params: settings.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self.network: Network | None = None
        self._read: tuple[Problem, Cells] | None = None

    @classmethod
    def create(cls, params: Params, problem: Problem, context: Context) -> Classifier:
        """Refuse what the problem lacks; the network is made by `fit`, which knows the genes."""
        del context
        if "genes" in params.reads() and not problem.genes:
            what = "the slides share no gene, and the model reads genes"
            raise InputError("slides", what, "give slides with counts of one panel")
        return cls(params)

    def fit(self, problem: Problem, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train on the labels of the training cells; yields the course when it is done."""
        cells, sizes = self._cells(problem)
        label = np.concatenate([slide.label for slide in problem.slides])
        part = np.concatenate([slide.part for slide in problem.slides])
        rows = {name: np.flatnonzero((part == name) & (label >= 0)) for name in ("train", "val")}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "fusion", "weights"))
            self.network = Network(self.params, sizes).to(context.device)
        n_classes = len(problem.classes)
        weight = np.ones(n_classes)
        if self.params.class_weights:
            weight = class_weights(label[rows["train"]], n_classes)
        objective = Labels(label, weight, self.params.stop_on, context.device)
        parts = (Part(cells, rows["train"]), Part(cells, rows["val"]))
        yield from train(self.network, parts, objective, self.params, context)

    def predict(self, problem: Problem, context: Context) -> Iterator[NDArray[np.float32]]:
        """Yield [n, L] probabilities of each slide's cells."""
        if self.network is None:
            raise RuntimeError("the model is not trained: call fit first")
        cells, _ = self._cells(problem)
        found = np.zeros((len(cells), len(problem.classes)), dtype=np.float32)
        for chosen, outputs in outputs_of(self.network, Part(cells, np.arange(len(cells))), context.device):
            found[chosen] = outputs.softmax(dim=1).cpu().numpy()
        ends = np.cumsum([len(slide.cell_id) for slide in problem.slides])
        yield from np.split(found, ends[:-1])

    def _cells(self, problem: Problem) -> tuple[Cells, Sizes]:
        """Return the problem's cells, and the widths of what they hold; kept from `fit` for `predict`."""
        if self._read is None or self._read[0] is not problem:
            self._read = problem, gather(self.params, problem)
        cells, sizes = self._read[1]
        return cells, sizes


def gather(params: Params, problem: Problem) -> tuple[Cells, Sizes]:
    """Return a problem's cells as the network reads them, and the widths of what they hold."""
    rows, scaler = _genes(params, problem) if "genes" in params.reads() else (None, None)
    embeddings = [slide.embeddings for slide in problem.slides]
    own = _joined(embeddings, params.frozen)
    image = _joined(embeddings, params.frozen_image)
    if params.image == "trainable":
        image = np.concatenate([_crops(slide, params.image_size) for slide in problem.slides])
    places = [Places(slide.slide, slide.xy_um, slide.array_yx) for slide in problem.slides]
    width = {name: 0 if values is None else values.shape[1] for name, values in (("own", own), ("image", image))}
    sizes = Sizes(0 if rows is None else rows.shape[1], width["own"], width["image"], len(problem.classes))
    return Cells(params, places, Features(rows, scaler, own, image)), sizes


def _genes(params: Params, problem: Problem) -> tuple[sparse.csr_matrix, Scaler]:
    """Return logged rows of the genes chosen on training cells, and their scaler."""
    logged = [log_rows(slide.counts, problem.values, params.depth) for slide in problem.slides]
    is_train = [np.flatnonzero(slide.part == "train") for slide in problem.slides]
    fitted = stack([rows[own] for rows, own in zip(logged, is_train, strict=True)])
    columns = choose_genes(fitted, params.n_genes, params.min_cells)
    logged = [select(rows, columns) for rows in logged]
    scaler = fit_scaler([select(fitted, columns)] if params.scaling == "train" else logged, params.clip)
    return stack(logged), scaler


def _joined(embeddings: Sequence[Mapping[str, NDArray[np.float32]]], run: str | None) -> NDArray[np.float32] | None:
    return None if run is None else np.concatenate([found[run] for found in embeddings])


def _crops(slide: SlideCells, size_px: int) -> NDArray[np.uint8]:
    if slide.images is None:
        what = "it has no images, and the model is trained on them"
        raise InputError(slide.slide, what, "choose a preset without image")
    return slide.images(np.arange(len(slide.cell_id)), size_px)
