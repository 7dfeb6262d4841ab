"""Pairs in memory: a target's latents are those of its control cell, moved one way or the other as its tokens say."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch

from mistline.models.contract import Context
from mistline.models.flow.model import Model
from mistline.models.flow.params import Params
from mistline.train import loop
from mistline.train.latents import LatentBatch
from mistline.train.pairs import PairBatch
from tests.unit.models.diffusion.synthetic import SHAPE, Cells

SETTINGS = {
    "condition": "spatia", "autoencoder": "vae", "size": "tiny", "token_width": 16,
    "label": "kind", "transitions": [["A", "B"]],
}  # fmt: skip


class Pairs(Cells):
    """Stands in for `train.pairs.PairSource`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rng = np.random.default_rng([self.seed, 1])
        level = rng.normal(0, 1.5, (self.n, 1, 1, 1))  # else the way itself would tell where it leads
        self.start = torch.from_numpy((level + rng.normal(0, 0.3, (self.n, *SHAPE))).astype(np.float32))
        self.mean = self.start + torch.from_numpy(self.follows)[:, None, None, None]
        self.confidence = rng.uniform(0.2, 1, self.n)

    def read(self, rows) -> PairBatch:
        cells = super().read(rows)
        told = {field.name: getattr(cells, field.name) for field in fields(LatentBatch)}
        weight = torch.from_numpy(self.confidence[rows].astype(np.float32))
        return PairBatch(**told, start=self.start[rows], weight=weight)


def trained(folder, steps: int = 75, **settings) -> Model:
    """Return a flow that learnt from synthetic pairs."""
    params = Params(
        **{**SETTINGS, "steps": steps, "train_batch": 64, "learning_rate": 4e-3, "warmup_steps": 5, **settings}
    )
    pairs, context = Pairs(), Context(1, "cpu", 1, folder)
    model = Model.create(params, pairs, context)
    for row in loop.fit(model, pairs, Pairs(n=64, seed=1), context):
        print(row)
    return model
