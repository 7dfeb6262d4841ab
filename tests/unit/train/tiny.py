"""A model for the loop: an autoencoder of logged counts with dropout and noise, of a few hundred weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mistline.models.contract import Context, Needs, Recipe
from mistline.train import loop
from mistline.train.distributed import Place

NEEDS = Needs(genes="dense", batch_size=16)
RECIPE = Recipe(NEEDS, steps=24, warmup_steps=4, row_every=5, validate_every=10, save_every=7)


class Net(nn.Module):
    """Two linear layers; `at` maps the number of a forward pass in training to what happens in it."""

    def __init__(self, n_genes: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.layers = nn.Sequential(nn.Linear(n_genes, 8), nn.ReLU(), nn.Dropout(noise), nn.Linear(8, n_genes))
        self.unused = nn.Parameter(torch.zeros(3))
        self.at = {}
        self.calls = 0
        self.dtypes = set()

    def forward(self, inputs: torch.Tensor, draw: torch.Generator) -> dict[str, torch.Tensor]:
        self.calls += self.training
        noisy = inputs + self.noise * torch.randn(inputs.shape, generator=draw)
        out = self.layers(noisy)
        self.dtypes.add(out.dtype)
        loss = (out - inputs).square().mean()
        if self.training and self.calls in self.at:
            loss = self.at[self.calls](loss)
        return {"loss": loss, "size": out.abs().mean()}


class Tiny:
    """See `mistline.models.contract.Trainable`."""

    def __init__(self, n_genes: int = 20, noise: float = 0.1, rate: float = 0.01, recipe: Recipe = RECIPE) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = Net(n_genes, noise)
        self.rate, self._recipe = rate, recipe

    def recipe(self, train) -> Recipe:
        return self._recipe

    def groups(self):
        decayed = [value for value in self.net.parameters() if value.ndim == 2]
        others = [value for value in self.net.parameters() if value.ndim != 2]
        return [
            {"params": decayed, "lr": self.rate, "weight_decay": 0.01},
            {"params": others, "lr": 2 * self.rate, "weight_decay": 0.0},
        ]

    def prepare(self, batch, device):
        return batch.genes.log1p().to(device)

    def weights(self) -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy().copy() for name, value in self.net.state_dict().items()}


def context(folder: Path, seed: int = 1, device: str = "cpu") -> Context:
    return Context(seed, device, 1, folder)


def fitted(source, folder: Path, *, val=None, seed: int = 1, **settings) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Train a tiny model; returns its weights and rows."""
    model = Tiny(**settings)
    rows = list(loop.fit(model, source, source if val is None else val, context(folder, seed)))
    return model.weights(), rows


def recipe(**changed) -> Recipe:
    return replace(RECIPE, **changed)


def end(number: int, loss: torch.Tensor) -> torch.Tensor:
    os.kill(os.getpid(), number)
    return loss


def killed_at(call: int, source, folder: Path, number: int = signal.SIGKILL) -> int | None:
    """Train in a process of its own that gets a signal in one forward pass; returns its exit code."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_train_until, args=(call, source, folder, number))
    process.start()
    process.join(120)
    return process.exitcode


def _train_until(call: int, source, folder: Path, number: int) -> None:
    torch.set_num_threads(1)
    model = Tiny()
    model.net.at[call] = partial(end, number)
    for _ in loop.fit(model, source, source, context(folder)):
        pass


class Alone:
    """Validation records of which there are none."""

    def batches(self, *_, **__) -> Iterator:
        return iter(())


def train_in_a_team(folder: Path, source, settings: dict, place: Place) -> None:
    """Be one of the processes of `spawn`: train, and leave weights and rows."""
    torch.set_num_threads(1)
    weights, rows = fitted(source, folder / "state", **settings)
    np.savez(folder / f"{place.rank}.npz", **weights)
    (folder / f"{place.rank}.txt").write_text(repr(rows))
