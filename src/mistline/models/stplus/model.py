"""stPlus (Chen et al. 2021), our own code from its description: one autoencoder of both sides, and neighbours.

`n` cells, `m` single cells, `G` genes that both measure, `W` wanted genes, `L` width of the latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mistline.core.errors import InputError
from mistline.core.seeds import derive, generator
from mistline.models.borrowing import borrowed, standardised
from mistline.models.contract import Context
from mistline.models.stplus.params import Params
from mistline.scrna.view import Imputed, TrainView

_ROW_EVERY = 50  # steps whose mean loss is a row of the course
_BLOCK = 16_384  # cells that are embedded at once
_HIDDEN_SHARE = 0.5  # of a step's single cells, whose wanted genes the encoder is not shown


class Autoencoder(nn.Module):
    """Genes [B, G + W] through a latent [B, L] and back."""

    def __init__(self, n_genes: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_genes, hidden), nn.ReLU(), nn.Linear(hidden, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, n_genes))

    def forward(self, genes: Tensor) -> Tensor:
        """Return [B, G + W], the genes as they come back."""
        said: Tensor = self.decoder(self.encoder(genes))
        return said


class Model:
    """See `mistline.models.imputer.Imputer`.

    Args:
        params: settings.
        net: untrained.
    """

    def __init__(self, params: Params, net: Autoencoder) -> None:
        self.params = params
        self.net = net
        self._states: list[dict[str, Tensor]] = []

    @classmethod
    def create(cls, params: Params, view: TrainView, context: Context) -> Model:
        """Return an untrained model."""
        if len(view.cell_id) < 2 or len(view.reference) < 2:
            raise InputError(f"slide {view.slide}", "fewer than two cells, or single cells", "leave it out")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "stplus", "weights"))
            return cls(params, Autoencoder(len(view.genes) + len(view.wanted), params.hidden, params.latent))

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train on both sides, and keep some states of the last half."""
        self.net.to(context.device).train()
        cells, single = _sides(view, context.device)
        optimiser = torch.optim.Adam(self.net.parameters(), lr=self.params.learning_rate)
        draw = generator(context.seed, "stplus", "batches")
        kept, losses = set(self._kept()), []
        for step in range(1, self.params.steps + 1):
            loss = self._loss(cells, single, len(view.genes), draw)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if step in kept:
                self._states.append({name: value.clone() for name, value in self.net.state_dict().items()})
            if step % _ROW_EVERY == 0 or step == self.params.steps:
                yield {"step": step, "loss": float(np.mean(losses))}
                losses.clear()

    @torch.no_grad()
    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Return weighted means over neighbours in the latent, averaged over the kept states."""
        if not self._states:
            raise RuntimeError("the model is not fitted: call fit first")
        self.net.to(context.device).eval()
        sides = [standardised(side) for side in (view.spatial, view.reference)]
        mean = np.zeros((len(view.cell_id), len(view.wanted)))
        for state in self._states:
            self.net.load_state_dict(state)
            cells, single = (self._latent(side, len(view.wanted), context.device) for side in sides)
            mean += borrowed(cells, single, view.wanted_reference, self.params.neighbours)
        return Imputed((mean / len(self._states)).astype(np.float32))

    def _kept(self) -> list[int]:
        """Return the steps after which a state is kept, spread over the last half of training."""
        first = (self.params.steps + 1) // 2
        return np.unique(np.linspace(self.params.steps, first, self.params.snapshots, dtype=int)).tolist()

    def _loss(self, cells: Tensor, single: Tensor, n_shared: int, draw: np.random.Generator) -> Tensor:
        """Return a step's loss: shared genes of both sides, wanted genes where they are known, small where not."""
        half = self.params.batch // 2
        own, other = (side[torch.from_numpy(draw.integers(len(side), size=half))] for side in (cells, single))
        shown = other.clone()
        # In the slide's cells wanted genes are blank; many single cells come as these do, so that both embed alike.
        shown[torch.from_numpy(draw.random(half) < _HIDDEN_SHARE), n_shared:] = 0
        said_own, said_other = self.net(own), self.net(shown)
        shared = nn.functional.mse_loss(said_own[:, :n_shared], own[:, :n_shared])
        known = nn.functional.mse_loss(said_other, other)
        return shared + known + self.params.sparsity * said_own[:, n_shared:].abs().mean()

    def _latent(self, side: NDArray[np.float32], n_wanted: int, device: str) -> NDArray[np.float32]:
        """Return float32 [n, L] of cells whose wanted genes are blank."""
        blocks = []
        for start in range(0, len(side), _BLOCK):
            genes = torch.from_numpy(side[start : start + _BLOCK]).to(device)
            blocks.append(self.net.encoder(nn.functional.pad(genes, (0, n_wanted))))
        return np.asarray(torch.cat(blocks).cpu().numpy())


def _sides(view: TrainView, device: str) -> tuple[Tensor, Tensor]:
    """Return [n, G + W] with blank wanted genes and [m, G + W], every gene standardised on its own side."""
    own = np.pad(standardised(view.spatial), ((0, 0), (0, len(view.wanted))))
    other = np.concatenate([standardised(view.reference), standardised(view.wanted_reference)], axis=1)
    return torch.from_numpy(own).to(device), torch.from_numpy(other).to(device)
