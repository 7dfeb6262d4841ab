"""The network: AutoencoderKL of diffusers, the loss it is trained on, and the scale of its latents.

`B` images, `C` channels, `S` side in pixels; `c, h, w` channels and sides of the latents, `P` channels of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

GROUP = 16  # images that the network is given at once, always so many: how many are asked for changes no bit
_MEMORY = 0.05  # weight of a batch in the running moments of the latents
_LEAST_STD = 1e-4  # of a channel of the latents that says nothing
_LEAST_LIGHT = 1.0  # grey levels: of a channel of the images that shows nothing


class Network(nn.Module):
    """Images to latents and back.

    Latents that are given out have mean 0 and variance 1 in each channel, over training cells and over what is
    drawn from the posterior. The moments behind that are buffers: running means over the batches of training, in
    which the last ones count most, or means over a sample where nothing is trained.

    Args:
        config: arguments of AutoencoderKL.
        channels: of the images.
        kl_weight: see `Params`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    first: Tensor
    second: Tensor
    batches: Tensor

    def __init__(self, config: Mapping[str, Any], channels: int, kl_weight: float) -> None:
        super().__init__()
        self.coder = AutoencoderKL(**config)
        self.channels, self.kl_weight = channels, kl_weight
        n = int(config["latent_channels"])
        self.register_buffer("pixel_mean", torch.full((channels, 1, 1), 127.5))
        self.register_buffer("pixel_std", torch.full((channels, 1, 1), 127.5))
        self.register_buffer("first", torch.zeros(n))
        self.register_buffer("second", torch.ones(n))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of one batch; in training, take it into the moments of the latents.

        Args:
            image: uint8 [B, C, S, S].
            draw: for the latents.
        """
        signal = self.signal(image)
        mean, log_variance = self.posterior(signal)
        noise = torch.randn(mean.shape, generator=draw, device=mean.device)
        latent = mean + noise * (log_variance / 2).exp()
        l1 = (self.coder.decode(latent, return_dict=False)[0].float() - signal).abs().mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / (2 * signal.numel())
        if self.training:
            self.notice(mean.detach(), log_variance.detach(), _MEMORY)
        return {"loss": l1 + self.kl_weight * divergence, "l1": l1, "kl": divergence}

    def signal(self, image: Tensor) -> Tensor:
        """Return float32 [B, P, S, S] as the network reads it; grey is repeated for a network of more channels."""
        signal = (image.float() - self.pixel_mean) / self.pixel_std
        return signal.expand(-1, self.coder.config["in_channels"], -1, -1) if signal.shape[1] == 1 else signal

    def posterior(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, float32 [B, c, h, w], as the network gives them."""
        found = self.coder.encode(signal, return_dict=False)[0]
        return found.mean.float(), found.logvar.float()

    @torch.no_grad()
    def look(self, image: Tensor) -> None:
        """Take mean and standard deviation of the pixels of a sample, uint8 [n, C, S, S]."""
        std, mean = torch.std_mean(image.double(), dim=(0, 2, 3), keepdim=True)
        self.pixel_mean.copy_(mean[0])
        self.pixel_std.copy_(std[0].clamp(min=_LEAST_LIGHT))

    @torch.no_grad()
    def notice(self, mean: Tensor, log_variance: Tensor, memory: float) -> None:
        """Take latents into their moments.

        Args:
            mean: [B, c, h, w].
            log_variance: [B, c, h, w].
            memory: least weight of the batch; the first ones weigh as much as all before them.
        """
        self.batches += 1
        weight = (1 / self.batches.float()).clamp(min=memory)
        moments = torch.stack([mean.mean((0, 2, 3)), (mean.square() + log_variance.exp()).mean((0, 2, 3))])
        if dist.is_initialized():  # one process keeps the weights, and sees its own share of the cells only
            dist.all_reduce(moments)
            moments /= dist.get_world_size()
        self.first.lerp_(moments[0], weight)
        self.second.lerp_(moments[1], weight)

    def scale(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation [c, 1, 1] of the latents of training cells."""
        std = (self.second - self.first.square()).clamp(min=_LEAST_STD**2).sqrt()
        return self.first[:, None, None], std[:, None, None]

    @torch.inference_mode()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, float32 [B, c, h, w], of the scaled latents of uint8 [B, C, S, S]."""
        centre, std = self.scale()
        found = [self.posterior(self.signal(part)) for part in _groups(image)]
        mean, log_variance = (torch.cat(parts)[: len(image)] for parts in zip(*found, strict=True))
        return (mean - centre) / std, (log_variance / 2).exp() / std

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Return the images, uint8 [B, C, S, S], of scaled latents; a grey one is the mean over the channels."""
        centre, std = self.scale()
        found = [self.coder.decode(part * std + centre, return_dict=False)[0] for part in _groups(latent)]
        signal = torch.cat(found)[: len(latent)].float()
        grey = signal.mean(1, keepdim=True) if self.channels < signal.shape[1] else signal
        return (grey * self.pixel_std + self.pixel_mean).round().clamp(0, 255).to(torch.uint8)


def _groups(values: Tensor) -> Sequence[Tensor]:
    """Return [GROUP, ...] each; the last is filled up with zeros."""
    lacking = -len(values) % GROUP
    return torch.cat([values, values.new_zeros(lacking, *values.shape[1:])]).split(GROUP)
