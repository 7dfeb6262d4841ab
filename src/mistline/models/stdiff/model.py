"""The registered model: a diffusion over single cells fills in cells of a slide. See `mistline.models.imputer.Imputer`.

`n` cells of the slide, `m` single cells, `G` training genes, `V` validation genes, `W` wanted ones, `D = G + V + W`,
`S` samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.core.seeds import derive, generator
from mistline.models.contract import Context
from mistline.models.spadit.diffusion import Schedule, widening
from mistline.models.spadit.reference import Levels, standardised
from mistline.models.stdiff.inpainting import Noise, inpaint
from mistline.models.stdiff.network import Denoiser
from mistline.models.stdiff.params import Params
from mistline.models.stopping import stopped
from mistline.scrna.view import Imputed, TrainView

LEAST_GENES, LEAST_CELLS = 4, 20
_VAL_CELLS = 1000  # that a validation looks at


class Model:
    """A network for one pair.

    Args:
        params: settings.
        cells: float32 [m, D] single cells, each gene standardised; training genes first, then validation genes.
        net: untrained.
    """

    def __init__(self, params: Params, cells: NDArray[np.float32], net: Denoiser) -> None:
        self.params, self.net, self.schedule = params, net, Schedule(params.levels)
        self._cells = torch.from_numpy(cells)
        self.told: dict[str, str] = {}

    @classmethod
    def create(cls, params: Params, view: TrainView, context: Context) -> Model:
        """Return an unfitted model for a pair.

        Raises:
            InputError: too few genes are shared, or the reference has too few cells.
        """
        n_train, n_cells = int((~view.is_val).sum()), len(view.reference)
        if n_train < LEAST_GENES or not view.is_val.any() or n_cells < LEAST_CELLS:
            what = f"{n_train} training genes, {view.is_val.sum()} validation genes and {n_cells} single cells"
            remedy = f"at least {LEAST_GENES}, 1 and {LEAST_CELLS} are needed"
            raise InputError(f"slide {view.slide}", what, remedy)
        order = np.argsort(view.is_val, kind="stable")
        cells = standardised(np.concatenate([view.reference[:, order], view.wanted_reference], axis=1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "stdiff", view.slide, "weights"))
            return cls(params, cells.astype(np.float32), Denoiser(cells.shape[1], params.width, params.depth))

    def describe(self) -> dict[str, str]:
        """Return what a card says of it."""
        n = sum(value.numel() for value in self.net.parameters())
        return {"Network": f"{self.params.depth} blocks, width {self.params.width}, {n:,} weights", **self.told}

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train on single cells, and keep the weights of the lowest loss on those that were left out."""
        del view  # it was read when the model was created
        params, net = self.params, self.net.to(context.device).train()
        order = generator(context.seed, "stdiff", "cells").permutation(len(self._cells))
        n_val = max(1, round(params.val_share * len(order)))
        val, train = self._cells[order[:n_val][:_VAL_CELLS]], self._cells[order[n_val:]]
        draw = torch.Generator().manual_seed(derive(context.seed, "stdiff", "training"))

        def loss() -> Tensor:
            rows = torch.randint(len(train), (params.train_batch,), generator=draw)
            return self._loss(train[rows], draw, context.device)

        lowest = float("inf")
        for row in stopped(net, params, loss, lambda: self._validated(val, context.device)):
            lowest = min(lowest, row["val_loss"])
            yield row
        self.told["Training"] = f"validation loss {lowest:.4g}"

    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Return the wanted genes of all cells: the mean of samples, and their spread scaled on validation genes."""
        train = ~view.is_val
        values = view.spatial[:, train]
        at_slide = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        at_slide = at_slide[0], np.where(at_slide[1] > 0, at_slide[1], 1.0)
        order = np.argsort(~view.is_val, kind="stable")[: int(view.is_val.sum())]  # validation genes
        told = Levels.of(view.reference[:, train], *at_slide)
        level, scale = told.told(np.concatenate([view.reference[:, order], view.wanted_reference], axis=1))
        mean, sd = (np.empty((len(values), len(level)), dtype=np.float32) for _ in range(2))
        for start in range(0, len(values), self.params.sample_batch):
            rows = slice(start, start + self.params.sample_batch)
            drawn = self._drawn(view.cell_id[rows], (values[rows] - at_slide[0]) / at_slide[1], context)
            mean[rows], sd[rows] = level + scale * drawn.mean(axis=1), scale * drawn.std(axis=1, ddof=1)
        n_val = len(order)
        ratios = (view.spatial[:, order] - mean[:, :n_val]) / np.maximum(sd[:, :n_val], 1e-9)
        mean, sd = mean[:, n_val:], sd[:, n_val:]
        factor = widening(ratios)
        self.told["Spread"] = f"that of {self.params.samples} samples times {factor:.3g}, fitted on validation genes"
        return Imputed(np.maximum(mean, 0) if self.params.clip else mean.copy(), (factor * sd).astype(np.float32))

    @torch.no_grad()
    def _drawn(self, names: NDArray[np.str_], known: NDArray[np.float64], context: Context) -> NDArray[np.float64]:
        """Return samples [B, S, V + W] of cells of which [B, G] is known, standardised."""
        params, net = self.params, self.net.to(context.device).eval()
        n_samples, n_genes = params.samples, self._cells.shape[1]
        noise = Noise([derive(context.seed, "stdiff", "noise", name) for name in names], (n_samples, n_genes))
        seen = torch.from_numpy(known.astype(np.float32)).repeat_interleave(n_samples, 0).to(context.device)

        def predict(x: Tensor, levels: Tensor) -> Tensor:
            told: Tensor = net(x, levels / len(self.schedule), self.schedule.at(levels))
            return told

        drawn = inpaint(self.schedule, predict, seen, noise, params.sampling_steps, params.resamples)
        net.train()
        found = drawn.cpu().double().numpy().reshape(len(names), n_samples, n_genes)
        return np.asarray(found[:, :, known.shape[1] :])

    def _loss(self, cells: Tensor, draw: torch.Generator, device: str) -> Tensor:
        n = len(cells)
        even = (torch.arange(n) + torch.rand(n, generator=draw)) / n  # every batch has levels of all kinds
        noise = torch.randn(cells.shape, generator=draw)
        x, noise, levels = (value.to(device) for value in (cells, noise, (even * len(self.schedule)).long()))
        told = self.net(self.schedule.noised(x, noise, levels), levels / len(self.schedule), self.schedule.at(levels))
        error = (told - x).square().mean(1, keepdim=True)
        return (error * self.schedule.weight(levels, self.params.largest_snr)).mean()

    @torch.no_grad()
    def _validated(self, cells: Tensor, device: str) -> float:
        """Return the loss of cells, at the same levels and noise every time."""
        return float(self._loss(cells, torch.Generator().manual_seed(0), device))
