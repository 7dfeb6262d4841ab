"""The U-Net that learns velocities between matched cells. `B` pairs; latents are [B, c, h, w]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mistline.models.diffusion.network import Asked, Denoiser, Sizes
from mistline.models.flow.path import TIMES


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch of pairs.

    Args:
        start: [B, c, h, w] latents of the control cells.
        end: [B, c, h, w] latents of the target cells.
        tokens: [B, 2, 4, D] of the target cells, by reading and token.
        confidence: [B] of the pairs.
    """

    start: Tensor
    end: Tensor
    tokens: Tensor
    confidence: Tensor

    def to(self, device: str) -> Inputs:
        """Return the batch on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


class Network(Denoiser):
    """A conditional U-Net that is told a place on the way from one cell to another, and predicts the velocity there.

    Args:
        sizes: what it is made for.
        asked: how training pairs ask.
        alpha: power of the confidence that weighs a pair.
    """

    mean_weight: Tensor

    def __init__(self, sizes: Sizes, asked: Asked, alpha: float) -> None:
        super().__init__(sizes, asked)
        self.alpha = alpha
        self.register_buffer("mean_weight", torch.ones(()))

    def fit_weights(self, confidence: Tensor) -> None:
        """Learn the mean weight of the training pairs, [n]: the loss of a pair then does not hang on its batch."""
        self.mean_weight.copy_(confidence.double().pow(self.alpha).mean())

    def losses(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the mean squared error of the velocity at a time of each pair's own, weighted by confidence.

        The path is straight, x_t = (1 - t) start + t end, so that its velocity is end - start all the way (Lipman et
        al. 2023, arXiv 2210.02747; specs/spatia.md section 13). `unweighted` is the error with all weights alike.
        """
        n, device = len(inputs.start), inputs.start.device
        t = torch.rand(n, generator=draw, device=device, dtype=inputs.start.dtype)
        at = t[:, None, None, None]
        tokens = self.ask(inputs.tokens, draw)
        found = self.predict((1 - at) * inputs.start + at * inputs.end, t * TIMES, tokens)
        error = (found.float() - (inputs.end - inputs.start)).square().mean((1, 2, 3))
        weight = inputs.confidence.pow(self.alpha) / self.mean_weight
        return {"loss": (weight * error).mean(), "unweighted": error.mean()}
