"""The U-Net with its conditions, and the loss it learns by. `B` cells; latents are [B, c, h, w]."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mistline.models.diffusion.average import Average
from mistline.models.diffusion.conditions import MODE_NUMBERS, Conditions
from mistline.models.diffusion.noise import Schedule
from mistline.models.diffusion.unet import UnetSizes, build


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a denoiser is made for.

    Args:
        unet: sizes of the U-Net.
        latent_channels: c.
        width: of the condition encoder, D.
        token_width: of a token as the U-Net reads it.
        present: [2][4], tokens that the condition's run gives, by reading and token.
    """

    unet: UnetSizes
    latent_channels: int
    width: int
    token_width: int
    present: Sequence[Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Asked:
    """How a training cell asks for its image.

    Args:
        modes: names, of which each cell draws one.
        dropout: share of cells that are told nothing.
    """

    modes: tuple[str, ...]
    dropout: float


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch.

    Args:
        mean: [B, c, h, w] of the latents' distribution.
        std: [B, c, h, w].
        tokens: [B, 2, 4, D], by reading and token.
    """

    mean: Tensor
    std: Tensor
    tokens: Tensor

    def to(self, device: str) -> Inputs:
        """Return the batch on a device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device), tokens=self.tokens.to(device))

    def latents(self, draw: torch.Generator) -> Tensor:
        """Return [B, c, h, w], a draw of the autoencoder's latents."""
        return self.mean + self.std * normal(self.mean, draw)


class Denoiser(nn.Module, ABC):
    """A conditional U-Net and the average of its weights, which computes whenever nothing is trained.

    Args:
        sizes: what it is made for.
        asked: how training cells ask.
        decay: of the average.
    """

    numbers: Tensor

    def __init__(self, sizes: Sizes, asked: Asked) -> None:
        super().__init__()
        self.unet = build(sizes.unet, sizes.latent_channels, sizes.token_width)
        self.conditions = Conditions(sizes.width, sizes.token_width, sizes.present)
        self.asked = asked
        self.register_buffer("numbers", torch.tensor([MODE_NUMBERS[name] for name in asked.modes]), persistent=False)

    def average_with(self, decay: float) -> None:
        """Keep an average of all weights; called last by what adds weights of its own."""
        self.average = Average(self, decay)

    @abstractmethod
    def losses(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return `loss` and what else is logged; of each kind of generator its own."""

    def forward(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a batch, each a scalar; of the average of the weights where nothing is trained."""
        if self.training:
            self.average.update()
            return self.losses(inputs, draw)
        with self.average.applied():
            return self.losses(inputs, draw)

    def predict(self, x: Tensor, t: Tensor | float, tokens: Tensor) -> Tensor:
        """Return [B, c, h, w].

        Args:
            x: [B, c, h, w].
            t: step of one number, or [B].
            tokens: [B, 4, token_width] of `conditions`.
        """
        told = {"encoder_hidden_states": tokens, "class_labels": tokens.flatten(1)}
        found: Tensor = self.unet(x, t, **told, return_dict=False)[0]
        return found

    def ask(self, tokens: Tensor, draw: torch.Generator) -> Tensor:
        """Return [B, 4, token_width] of training cells: each draws its mode, and whether it is told anything.

        Args:
            tokens: [B, 2, 4, D].
            draw: where from.
        """
        n, device = len(tokens), tokens.device
        modes = self.numbers[torch.randint(len(self.numbers), (n,), generator=draw, device=device)]
        dropped = torch.rand(n, generator=draw, device=device) < self.asked.dropout
        return self.conditions(tokens, modes, dropped)


class Network(Denoiser):
    """A denoiser that learns to take noise from latents.

    Args:
        sizes: what it is made for.
        asked: how training cells ask.
        schedule: the noise levels.
    """

    def __init__(self, sizes: Sizes, asked: Asked, schedule: Schedule) -> None:
        super().__init__(sizes, asked)
        self.schedule = schedule

    def losses(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the mean squared error of the prediction, at a level of noise of each cell's own."""
        latents = inputs.latents(draw)
        noise = normal(latents, draw)
        t = torch.randint(len(self.schedule), (len(latents),), generator=draw, device=latents.device)
        tokens = self.ask(inputs.tokens, draw)
        found = self.predict(self.schedule.noised(latents, noise, t), t, tokens)
        return {"loss": mse_loss(found.float(), self.schedule.target(latents, noise, t))}


def normal(like: Tensor, draw: torch.Generator) -> Tensor:
    """Return a standard normal draw of the same shape."""
    return torch.randn(like.shape, generator=draw, device=like.device, dtype=like.dtype)
