"""Encoded cells in memory whose latents follow one number of their tokens, and a U-Net small enough to learn that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mistline.data.order import Order, Plan
from mistline.models.contract import Context, Needs
from mistline.models.diffusion import generator as registered
from mistline.models.diffusion.model import Model
from mistline.models.diffusion.params import Params
from mistline.models.diffusion.unet import UnetSizes
from mistline.store.latents import LatentOrigin
from mistline.train import loop
from mistline.train.latents import LatentBatch

SHAPE, WIDTH = (2, 4, 4), 6
ALL = ((True,) * 4,) * 2
MICRO = UnetSizes(channels=(16,), layers=1, heads=2, groups=4)
SETTINGS = {"condition": "spatia", "autoencoder": "vae", "size": "tiny", "token_width": 16}


def origin(present=ALL, **changes) -> LatentOrigin:
    given = {"seed": 0, "autoencoder_sha256": "a" * 64, "condition_sha256": "c" * 64, "dataset_version": "d" * 64}
    return LatentOrigin(**{**given, "image_size": 16, "present": present, **changes})


@dataclass
class Cells:
    """Stands in for `train.latents.LatentSource`: the brightness of a cell's latents is its second number."""

    n: int = 256
    seed: int = 0
    present: tuple = ALL
    latent_shape: tuple = SHAPE
    token_shape: tuple = (2, 4, WIDTH)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.origin = origin(self.present)
        self.follows = rng.choice([-1.0, 1.0], self.n).astype(np.float32)
        own = rng.normal(size=(self.n, WIDTH)).astype(np.float32)
        own[:, 0] *= 20  # an axis that says nothing, and is all that is seen without whitening
        own[:, 1] = 4 * self.follows
        tokens = np.broadcast_to(own[:, None, None], (self.n, *self.token_shape)).copy()
        tokens[:, ~np.array(self.present)] = 0
        self.tokens = torch.from_numpy(tokens)
        noise = rng.normal(size=(self.n, *SHAPE)).astype(np.float32)
        self.mean = torch.from_numpy(self.follows[:, None, None, None] + 0.2 * noise)

    def count(self, scale: str = "cell") -> int:
        return self.n

    def batches(self, needs, shuffle=None, *, skip=0, rank=0, world=1):
        order = self._order(needs, shuffle, rank, world)
        order.start = skip
        return (self.read(np.array(rows)) for rows in order)

    def n_batches(self, needs, shuffle=None, *, rank=0, world=1):
        return self._order(needs, shuffle, rank, world).n_batches

    def read(self, rows) -> LatentBatch:
        n = len(rows)
        ids = [f"cell-{row}" for row in rows]
        std = torch.full((n, *SHAPE), 0.01)
        return LatentBatch(
            ["s1"] * n, ["d1"] * n, ids, torch.zeros(n, 2), torch.ones(n), self.mean[rows], std, self.tokens[rows]
        )

    def _order(self, needs: Needs, shuffle, rank, world) -> Order:
        even = None if shuffle is None else "cut"
        return Order(
            [self.n], Plan(needs.batch_size, shuffle is not None, shuffle or 0, rank=rank, world=world, even=even)
        )


def micro(monkeypatch) -> None:
    """Let `size: tiny` be smaller still."""
    monkeypatch.setitem(registered.SIZES, "tiny", MICRO)


def trained(folder, steps: int = 60, **settings) -> Model:
    """Return a model that learnt from synthetic cells."""
    params = Params(
        **{**SETTINGS, "steps": steps, "train_batch": 32, "learning_rate": 5e-3, "warmup_steps": 10, **settings}
    )
    cells, context = Cells(), Context(1, "cpu", 1, folder)
    model = Model.create(params, cells, context)
    for _ in loop.fit(model, cells, Cells(n=64, seed=1), context):
        pass
    return model
