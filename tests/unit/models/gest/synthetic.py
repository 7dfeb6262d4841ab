"""A tissue in memory: squares of one meta-cell each, so that a cell's neighbours tell what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mistline.data.columns import Names
from mistline.data.order import Order, Plan
from mistline.data.sample import Batch
from mistline.models.contract import Context
from mistline.models.gest.codes import MetacellCode
from mistline.models.gest.model import Model
from mistline.models.gest.network import Inputs, Network, Sizes
from mistline.models.gest.params import Params
from mistline.models.gest.serialise import Serialisation
from mistline.models.gest.vocabulary import whitened
from mistline.models.gest.windows import seen_and_asked
from mistline.models.vocabulary import Vocabulary
from mistline.train import loop

K, T = 6, 12
SIDE_UM, SQUARE_UM = 240.0, 60.0
SETTINGS = {"size": "tiny", "window_um": 90.0, "width": 32, "steps": 200, "train_batch": 8, "learning_rate": 1e-2}


def vocabulary() -> Vocabulary:
    rng = np.random.default_rng(3)
    expression = (5 + rng.normal(size=(K, T))).astype(np.float32)  # most of it is shared
    levels = np.stack([np.arange(K) // 2, np.arange(K) // 3], axis=1).astype(np.int64)
    return Vocabulary(tuple(f"g{i:02d}" for i in range(T)), expression, levels)


class Tissue:
    """See `mistline.models.contract.Source`; with `own` meta-cells, or as a table whose genes show them."""

    channels = ()
    values = "log"

    def __init__(self, n: int = 500, seed: int = 0, own: bool = True, slides: tuple[str, ...] = ("s",)) -> None:
        rng = np.random.default_rng(seed)
        self.vocabulary = vocabulary() if own else None
        self.genes = self.common_genes = self.symbols = vocabulary().genes
        self.slides = slides
        self.panels = {slide: np.ones(T, dtype=bool) for slide in slides}
        self.slide = np.array([slides[i * len(slides) // n] for i in range(n)], dtype=object)
        self.xy_um = rng.uniform(0, SIDE_UM, (n, 2)).astype(np.float32)
        square = (self.xy_um // SQUARE_UM).astype(int)
        kinds = np.random.default_rng(1).integers(0, K, (4, 4))
        self.metacell = np.where(rng.random(n) < 0.9, kinds[square[:, 0], square[:, 1]], rng.integers(0, K, n))
        noise = rng.normal(scale=0.1, size=(n, T))
        self.expression = (vocabulary().expression[self.metacell] + noise).astype(np.float32)
        self.ids = [f"cell-{i}" for i in range(n)]

    def count(self, scale: str = "cell") -> int:
        return len(self.ids)

    def n_batches(self, needs, shuffle=None, *, rank=0, world=1) -> int:
        return self._order(needs, shuffle, rank, world).n_batches

    def batches(self, needs, shuffle=None, *, skip=0, rank=0, world=1):
        order = self._order(needs, shuffle, rank, world)
        order.start = skip
        return (self.read(np.array(rows), needs.genes == "dense") for rows in order)

    def read(self, rows: np.ndarray, genes: bool = False) -> Batch:
        names = self.slide[rows].tolist()
        ids = [self.ids[row] for row in rows]
        texts = {"record_id": ids, "slide": names, "donor": ["d"] * len(ids), "labels": {}, "tiles": {}}
        texts |= {"key": ids, "split": ["train"] * len(ids)}
        more = {}
        if self.vocabulary is not None:
            more["metacell"] = torch.from_numpy(self.metacell[rows].astype(np.int64))
        if genes:
            more["genes"] = torch.from_numpy(self.expression[rows])
            more["measured"] = torch.ones(len(rows), T, dtype=torch.bool)
        return Batch(Names.known(texts), torch.from_numpy(self.xy_um[rows]), torch.zeros(len(rows)), **more)

    def _order(self, needs, shuffle, rank, world) -> Order:
        even = None if shuffle is None else "cut"
        plan = Plan(needs.batch_size, shuffle is not None, shuffle or 0, rank=rank, world=world, even=even)
        return Order([len(self.ids)], plan)


def trained(folder: Path, **settings) -> tuple[Model, list]:
    """Return a model that learnt from a tissue, and the rows of its training."""
    params = Params(**{**SETTINGS, **settings})
    tissue, context = Tissue(), Context(1, "cpu", 1, folder)
    model = Model.create(params, tissue, context)
    rows = list(loop.fit(model, tissue, Tissue(n=300, seed=9), context))
    return model, rows


def network(order: Serialisation | None = None, head: str = "codebook", **changes) -> Network:
    """Return an untrained network of the vocabulary above, in evaluation mode."""
    given = {"width": 16, "layers": 2, "heads": 2, "dropout": 0.0, "step_um": 3.0, "spatial": True, "turns": True}
    given["copies"] = False
    sizes, found = Sizes(**{**given, **changes}), vocabulary()
    tensors = map(torch.from_numpy, (whitened(found.expression, 50), found.expression, found.levels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        code = MetacellCode(sizes.width, head, *tensors, (3, 2))
        return Network(sizes, code, order or Serialisation(), 150.0).eval()


def windows(*lengths: int, seed: int = 0) -> Inputs:
    """Return packed windows of random cells."""
    draw = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    delta = 150 * torch.rand(n, 2, generator=draw) - 75
    metacell = torch.randint(K, (n,), generator=draw)
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
    rows = map(torch.from_numpy, seen_and_asked(np.array(lengths, dtype=np.int64)))
    return Inputs(delta, metacell, numbers, torch.full((len(lengths),), 20.0), *rows, tuple(lengths))
