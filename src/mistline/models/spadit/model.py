"""The registered model: fitted anew for each slide and each fold of genes. See `mistline.models.imputer.Imputer`.

`n` cells, `G` training genes, `V` validation genes, `W` wanted ones, `S` samples, `p` numbers of a variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mistline.core.seeds import derive
from mistline.models.contract import Context
from mistline.models.spadit.diffusion import Schedule, ddim, paired_noise, widening
from mistline.models.spadit.items import Genes, Items
from mistline.models.spadit.network import Denoiser, Sizes, Told
from mistline.models.spadit.params import Params
from mistline.models.spadit.space import Floats
from mistline.models.stopping import stopped
from mistline.scrna.view import Imputed, TrainView

_VAL_LEVELS = 8  # at which every validation gene is looked at
_GENES = 32  # that are brought to cells at once


class Model:
    """A network for one pair.

    Args:
        params: settings.
        items: its genes.
        net: untrained.
    """

    def __init__(self, params: Params, items: Items, net: Denoiser) -> None:
        self.params, self.items, self.net = params, items, net
        self.schedule = Schedule(params.levels)
        self.told: dict[str, str] = {}
        weight = np.square(items.unit)  # an error counts as much as it makes at the cells
        self._weight = torch.from_numpy((weight / weight.mean()).astype(np.float32))

    @classmethod
    def create(cls, params: Params, view: TrainView, context: Context) -> Model:
        """Return an unfitted model for a pair.

        Raises:
            InputError: it shares too few genes, or none of them varies.
        """
        items = Items(params, view, derive(context.seed, "spadit", view.slide))
        sizes = (items.space.width, items.reference.n_metacells, params.patches)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "spadit", view.slide, "weights"))
            return cls(params, items, Denoiser(Sizes(*sizes, params.width, params.depth, params.heads)))

    def describe(self) -> dict[str, str]:
        """Return what a card says of it."""
        estimator, n = self.items.estimator, sum(value.numel() for value in self.net.parameters())
        found = {"Network": f"{self.params.depth} blocks, width {self.params.width}, {n:,} weights"}
        found["Diffused"] = f"{self.items.space.width} numbers a gene ({self.params.space})"
        if self.params.base == "estimate":
            found["Estimate"] = (
                f"ridge {estimator.ridge:g}; mean correlation {estimator.score:.3f} with training genes left out"
            )
        return {**found, **self.told}

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train, and keep the weights of the lowest validation loss."""
        del view  # it was read when the model was created
        params, net = self.params, self.net.to(context.device).train()
        draw = torch.Generator().manual_seed(derive(context.seed, "spadit", "training"))
        lowest = float("inf")
        for row in stopped(
            net,
            params,
            lambda: self._loss(*self._drawn(draw, context.device)),
            lambda: self._validated(context.device),
        ):
            lowest = min(lowest, row["val_loss"])
            yield row
        self.told["Training"] = f"validation loss {lowest:.4g}"

    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Return the wanted genes of all cells: what samples say in the mean, and their spread.

        How much of either is told is fitted on validation genes, of which nothing else is known than of wanted ones.
        """
        items, wanted, val = self.items, self.items.wanted(view.wanted_reference), self.items.val
        val_names = [gene for gene, is_val in zip(view.genes, view.is_val, strict=True) if is_val]
        tried = self._sampled(val, val_names, context)
        strength = self._strength(tried)
        levels = items.levels.told(view.reference[:, view.is_val])
        ratios = [
            (view.spatial[rows][:, view.is_val] - found) / np.maximum(spread, 1e-9)
            for rows, found, spread in self._at_cells(val, tried, strength, levels)
        ]
        factor = widening(np.concatenate(ratios))
        drawn = self._sampled(wanted, view.wanted, context)
        mean = np.empty((len(view.spatial), len(view.wanted)), dtype=np.float32)
        sd = np.empty_like(mean)
        levels = items.levels.told(view.wanted_reference)
        for rows, found, spread in self._at_cells(wanted, drawn, strength, levels):
            mean[rows], sd[rows] = found, factor * spread
        self.told["Samples"] = f"{strength:.2f} of their mean is told, {factor:.3g} of their spread (validation genes)"
        if self.params.clip:
            mean = np.maximum(mean, 0)
        return Imputed(mean, sd)

    def _drawn(self, draw: torch.Generator, device: str) -> tuple[Tensor, Tensor, Tensor, Told, Tensor]:
        """Return (variables, noise, levels, condition, which are told nothing) of a training batch."""
        params, train, patches = self.params, self.items.train, self.net.patches
        assert train.rest is not None
        n = params.train_batch
        rows = torch.randint(len(train.rest), (n,), generator=draw)
        even = (torch.arange(n) + torch.rand(n, generator=draw)) / n  # every batch has levels of all kinds
        levels = (even * len(self.schedule)).long()
        noise = torch.randn(n, train.rest.shape[1], generator=draw)
        told = train.told.take(rows)
        hides = torch.rand(*told.likeness.shape, patches.n, generator=draw) < params.mask_share
        dropped = torch.rand(n, generator=draw) < params.condition_dropout
        values = (train.rest[rows], noise, levels)
        x, noise, levels = (value.to(device) for value in values)
        return x, noise, levels, self.net.hidden(told, hides).to(device), dropped.to(device)

    def _loss(self, x: Tensor, noise: Tensor, levels: Tensor, told: Told, dropped: Tensor | None = None) -> Tensor:
        seen = self.schedule.noised(x, noise, levels)
        error = (self._predicted(seen, levels, told, dropped) - x).square() * self._weight.to(x.device)
        return (error.mean(1, keepdim=True) * self.schedule.weight(levels, self.params.largest_snr)).mean()

    def _predicted(self, x: Tensor, levels: Tensor, told: Told, dropped: Tensor | None = None) -> Tensor:
        return self.net(x, levels / len(self.schedule), self.schedule.at(levels), told, dropped)

    @torch.no_grad()
    def _validated(self, device: str) -> float:
        """Return the loss of validation genes, at the same levels and noise every time."""
        val = self.items.val
        assert val.rest is not None
        n = len(val.rest)
        rows = torch.arange(n).repeat(_VAL_LEVELS)
        noise = torch.randn(len(rows), val.rest.shape[1], generator=torch.Generator().manual_seed(0))
        levels = ((torch.arange(len(rows)) + 0.5) / len(rows) * len(self.schedule)).long()
        given = (value.to(device) for value in (val.rest[rows], noise, levels, val.told.take(rows)))
        return float(self._loss(*given))

    @torch.no_grad()
    def _sampled(self, genes: Genes, names: Sequence[str], context: Context) -> Floats:
        """Return samples [k, S, p] of genes' variables; a gene's noise comes from its name."""
        params, width = self.params, self.items.space.width
        net = self.net.to(context.device).eval()
        found = [np.empty((0, params.samples, width))]
        for start in range(0, len(names), params.sample_batch):
            own = names[start : start + params.sample_batch]
            noise = paired_noise([derive(context.seed, "spadit", "noise", gene) for gene in own], params.samples, width)
            rows = torch.arange(start, start + len(own)).repeat_interleave(params.samples)
            told = genes.told.take(rows).to(context.device)
            nothing = torch.ones(len(rows), dtype=torch.bool, device=context.device)

            def predict(x: Tensor, levels: Tensor, told: Told = told, nothing: Tensor = nothing) -> Tensor:
                known = self._predicted(x, levels, told)
                if params.guidance == 1:
                    return known
                unknown = self._predicted(x, levels, told, nothing)
                return unknown + params.guidance * (known - unknown)

            drawn = ddim(self.schedule, predict, noise.flatten(0, 1).to(context.device), params.sampling_steps)
            found.append(drawn.cpu().double().numpy().reshape(len(own), params.samples, width) * self.items.unit)
        net.train()
        return np.concatenate(found)

    def _strength(self, drawn: Floats) -> float:
        """Return the share of the samples' mean that is nearest to the truth of validation genes, from 0 to 1."""
        rest = self.items.val.rest
        assert rest is not None
        told, truth = drawn.mean(axis=1), rest.double().numpy() * self.items.unit
        return float(np.clip((told * truth).sum() / max(np.square(told).sum(), 1e-12), 0, 1))

    def _at_cells(
        self, genes: Genes, drawn: Floats, strength: float, levels: tuple[Floats, Floats]
    ) -> Iterator[tuple[slice, Floats, Floats]]:
        """Yield (rows, mean [rows, k], spread [rows, k]), log-normalised, from samples [k, S, p]."""
        space, mean, (level, scale) = self.items.space, drawn.mean(axis=1), levels
        for rows, values in self.items.measured.chunks():
            found = genes.estimate[rows] + strength * space.at_cells(rows, values, mean)
            spread = np.empty_like(found)
            for start in range(0, len(drawn), _GENES):
                own = slice(start, start + _GENES)
                apart = space.at_cells(rows, values, drawn[own] - mean[own, None])
                spread[:, own] = np.sqrt(np.square(apart).sum(axis=-1) / (self.params.samples - 1))
            yield rows, level + scale * found, scale * spread
