"""What the U-Net's cross-attention reads: four tokens a cell, whitened, or the learned null tokens of their places.

`B` cells, `D` width of the condition encoder, `W` width of a token.

The first axes of an embedding can hold nearly all of its variance; a generator that is trained for a short time then
sees those alone. Each token of each reading is therefore whitened on training cells: its principal components, each
divided by its standard deviation. Components of less than the mean variance are divided by the root of that: they hold
noise, and of the few niches of a training set no more than which slide it was, which other slides would be far from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from mistline.models.diffusion.modes import MODES, READINGS, TOKENS

MODE_NUMBERS = {name: number for number, name in enumerate(MODES)}
SAMPLE = 4096  # training cells that the whitening is fitted on

_FLOOR = 1.0  # least variance a component is divided by, as a multiple of the mean variance
_LARGEST = 4.0  # standard deviations: a cell unlike all training cells must not drive the U-Net anywhere


class Conditions(nn.Module):
    """Tokens of cells and modes.

    Args:
        width: D.
        token_width: W.
        present: [2][4], which tokens the run gives, by reading and token.
    """

    mean: Tensor
    matrix: Tensor
    told: Tensor
    reading: Tensor

    def __init__(self, width: int, token_width: int, present: Sequence[Sequence[bool]]) -> None:
        super().__init__()
        n_readings, n_tokens = len(READINGS), len(TOKENS)
        self.register_buffer("mean", torch.zeros(n_readings, n_tokens, width))
        self.register_buffer("matrix", torch.eye(width).expand(n_readings, n_tokens, -1, -1).clone())
        self.project = nn.Parameter(torch.randn(n_tokens, width, token_width) * width**-0.5)
        self.place = nn.Parameter(torch.randn(n_tokens, token_width) * 0.02)
        self.of_reading = nn.Parameter(torch.randn(n_readings, 1, token_width) * 0.02)
        self.null = nn.Parameter(torch.randn(n_tokens, token_width) * 0.02)
        readings = [READINGS.index(mode.reading) for mode in MODES.values()]
        told = [
            [token in mode.tokens and bool(present[own][number]) for number, token in enumerate(TOKENS)]
            for mode, own in zip(MODES.values(), readings, strict=True)
        ]
        self.register_buffer("told", torch.tensor(told), persistent=False)
        self.register_buffer("reading", torch.tensor(readings), persistent=False)

    def fit(self, sample: Tensor) -> None:
        """Learn the whitening from tokens of training cells, [n, 2, 4, D]; what does not vary stays zero."""
        for reading, token in np.ndindex(len(READINGS), len(TOKENS)):
            mean, matrix = whitening(sample[:, reading, token].numpy())
            self.mean[reading, token] = torch.from_numpy(mean)
            self.matrix[reading, token] = torch.from_numpy(matrix)

    def forward(self, tokens: Tensor, mode: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Return [B, 4, W].

        Args:
            tokens: [B, 2, 4, D]; those that the run does not give are not read.
            mode: int64 [B], numbers of `MODE_NUMBERS`.
            dropped: bool [B], cells that are told nothing; None for no cell.
        """
        told, reading = self.told[mode], self.reading[mode]
        own = tokens[torch.arange(len(tokens), device=tokens.device), reading]  # [B, 4, D]
        with torch.autocast(own.device.type, enabled=False):  # small components are differences of large numbers
            own = torch.einsum("btd,btde->bte", own.float() - self.mean[reading], self.matrix[reading])
        own = own.clamp(-_LARGEST, _LARGEST)
        found = torch.einsum("btd,tdw->btw", own, self.project) + self.place + self.of_reading[reading]
        if dropped is not None:
            told = told & ~dropped[:, None]
        return torch.where(told[:, :, None], found, self.null.to(found.dtype))

    def empty(self, n: int) -> Tensor:
        """Return [n, 4, W] of cells that are told nothing."""
        return self.null.expand(n, -1, -1)


def whitening(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (mean [D], matrix [D, D]) for which `(rows - mean) @ matrix` has uncorrelated columns.

    Those with at least the mean variance have variance 1, the others less.

    Args:
        rows: [n, D].
    """
    values = rows.astype(np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    with threadpool_limits(limits=1):  # the same for any number of threads
        variances, axes = np.linalg.eigh(centred.T @ centred / len(values))
    if variances[-1] <= np.finfo(np.float32).tiny:
        return mean.astype(np.float32), np.zeros_like(axes, dtype=np.float32)
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))] < 0, -1.0, 1.0)
    matrix = axes / np.sqrt(np.maximum(variances, _FLOOR * variances.mean()))
    return mean.astype(np.float32), matrix.astype(np.float32)
