"""Niches through a trained gest, and the line from their states to classes.

`B` cells, `D` width of gest, `L` classes, `m` cells of one niche.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.gest.embedding import Niche, ordered
from mistline.models.gest.network import Inputs
from mistline.models.gest.network import Network as Encoder
from mistline.models.gest.windows import Cells, Windows, around, seen_and_asked

_GROUP = 32  # niches that go through the network at once where nothing is trained
_ROUNDS = 200  # of the probe's fit, at most
_NEVER = -30.0  # score of a class that no training cell has


class Network(nn.Module):
    """States of a niche, pooled, and scores of the classes.

    Args:
        encoder: of gest; its own, to be changed.
        niche: what of the tissue is read.
        pooling: mean or max.
        n_classes: L.
    """

    def __init__(self, encoder: Encoder, niche: Niche, pooling: str, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.niche, self.pooling = encoder, niche, pooling
        self.head = nn.Linear(encoder.sizes.width, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, cells: Cells, rows: NDArray[np.int64]) -> Tensor:
        """Return [B, D] the pooled states of the niches around some cells of a slide, int64 [B]; mean over corners."""
        centres = cells.xy_um[rows].astype(np.float64)
        windows = around(cells, centres, self.niche.side_um, self.niche.most)
        lengths = windows.lengths.tolist()
        total = []
        for corner in range(self.niche.corners):
            order = ordered(cells, windows, centres, self.niche.side_um, corner, rows)
            states = self.read(cells, rows, replace(windows, cells=order)).split(lengths)
            total.append(torch.stack([self._pooled(part) for part in states]))
        return torch.stack(total).mean(dim=0)

    def read(self, cells: Cells, rows: NDArray[np.int64], niches: Windows) -> Tensor:
        """Return [M, D] the states of niches whose M cells are in order, the cell itself first.

        They are those at the neighbours' places, each after what lies before it, and last that at the cell's own
        place, after all of them.

        Args:
            cells: of the slide.
            rows: int64 [B] the cells whose niches these are.
            niches: B of them.
        """
        # The cell stands once more at the end, where only its place is asked: what stands last is never read.
        order = np.insert(niches.cells, niches.offsets[1:], rows)
        lengths = niches.lengths + 1
        number = np.repeat(np.arange(len(rows)), lengths)
        delta = (cells.xy_um[order] - cells.xy_um[rows].astype(np.float64)[number]).astype(np.float32)
        arrays = (delta, cells.content[order], number, np.zeros(len(rows), np.float32), *seen_and_asked(lengths))
        inputs = Inputs(*map(torch.from_numpy, arrays), tuple(lengths.tolist()))
        return self.encoder.hidden(inputs.to(str(self.head.weight.device)))

    @torch.no_grad()
    def states(self, slides: Sequence[Cells], asked: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return [sum of B, D] the same for some cells of each slide, int64 [B]; nothing is drawn."""
        self.eval()
        found = [self.head.weight.new_zeros(0, self.encoder.sizes.width)]
        for cells, rows in zip(slides, asked, strict=True):
            for low in range(0, len(rows), _GROUP):
                found.append(self(cells, rows[low : low + _GROUP]))
        return torch.cat(found)

    def _pooled(self, states: Tensor) -> Tensor:
        """Return [D] of [m, D]."""
        return states.mean(dim=0) if self.pooling == "mean" else states.max(dim=0).values


def fit_head(head: nn.Linear, states: Tensor, label: Tensor, weight: Tensor) -> None:
    """Fit the line by logistic regression on standardised states, with a square penalty of strength 1.

    Args:
        head: what is fitted, from zeros.
        states: [n, D] of the training cells.
        label: int64 [n].
        weight: [L] of the classes; 0 where no training cell has one, whose score stays that of no evidence.
    """
    mean, spread = states.mean(dim=0), states.std(dim=0, correction=0)
    scale = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
    standard, known = (states - mean) / scale, weight > 0
    own = nn.Linear(*reversed(head.weight.shape), device=states.device)
    nn.init.zeros_(own.weight)
    nn.init.zeros_(own.bias)
    search = torch.optim.LBFGS(own.parameters(), max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        found = functional.cross_entropy(own(standard)[:, known], _among(label, known), weight[known])
        found = found + own.weight.square().sum() / (2 * len(states))
        found.backward()
        return found

    search.step(loss)
    with torch.no_grad():
        head.weight.copy_(own.weight / scale)
        head.bias.copy_(own.bias - head.weight @ mean)
        head.bias[~known] = _NEVER


def _among(label: Tensor, known: Tensor) -> Tensor:
    """Return the labels' places among the known classes."""
    return (known.cumsum(0) - 1)[label]
