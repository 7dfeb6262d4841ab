"""The registered model: see `mistline.models.contract.Trainable` for its training; it draws latents, not embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mistline.config.generation import Sampling
from mistline.core.seeds import derive
from mistline.models.diffusion import sampler
from mistline.models.diffusion.generator import Generator, MadeFor, sizes_of
from mistline.models.diffusion.modes import READINGS, TOKENS
from mistline.models.diffusion.network import Asked, Inputs, Network
from mistline.models.diffusion.noise import Schedule
from mistline.models.diffusion.params import Params


class Model(Generator):
    """A generator of latents from noise.

    Args:
        params: settings.
        made_for: what it is trained on.
    """

    KIND = "diffusion"
    SETTINGS = ("size", "token_width", "prediction", "n_noise_steps", "beta_start", "beta_end")

    def __init__(self, params: Params, made_for: MadeFor) -> None:
        self.schedule = Schedule(params.n_noise_steps, params.beta_start, params.beta_end, params.prediction)
        asked = Asked(made_for.modes, params.condition_dropout)
        super().__init__(params, made_for, Network(sizes_of(params, made_for), asked, self.schedule))

    def describe(self) -> dict[str, str]:
        """Return what the model card says of it."""
        made, params = self.made_for, self.params
        n_weights = sum(value.numel() for value in self.net.unet.parameters())
        given = {
            reading: [token for token, has in zip(TOKENS, own, strict=True) if has]
            for reading, own in zip(READINGS, made.present, strict=True)
        }
        side = made.image_size
        return {
            "is": f"a latent diffusion model of {side} x {side} px images, after arXiv 2507.04704 v1, section on "
            "conditional generation",
            "U-Net": f"{n_weights:,} weights, size {params.size}, of latents {' x '.join(map(str, made.latent_shape))}",
            "predicts": params.prediction,
            "draws": ", ".join(made.modes),
            **{f"reading {name}": ", ".join(tokens) or "nothing" for name, tokens in given.items()},
            "autoencoder": f"{params.autoencoder}, sha256 {made.autoencoder_sha256}",
            "condition": f"{params.condition}, sha256 {made.condition_sha256}",
        }

    def prepare(self, batch: Any, device: str) -> Inputs:
        """Return a `train.latents.LatentBatch` as the network takes it, on the device."""
        return Inputs(batch.mean, batch.std, batch.tokens).to(device)

    def draw(self, cells: Any, mode: str, sampling: Sampling, seed: int) -> Tensor:
        """Return [B, c, h, w], latents of cells as their tokens say; the noise of each comes from its name.

        Args:
            cells: a `train.latents.LatentBatch`, of which `slide`, `record_id` and `tokens` are read.
            mode: of `modes.MODES`.
            sampling: settings.
            seed: of the draw.
        """
        keys = zip(cells.slide, cells.record_id, strict=True)
        seeds = [derive(seed, "generate", slide, cell_id) for slide, cell_id in keys]
        return self.sample(cells.tokens, mode, sampling, seeds)

    def sample(
        self, tokens: Tensor, mode: str, sampling: Sampling, seeds: Sequence[int], start: Tensor | None = None
    ) -> Tensor:
        """Return latents [B, c, h, w], in float32 on the CPU.

        Args:
            tokens: [B, 2, 4, D], by reading and token.
            mode: of `modes.MODES`.
            sampling: settings.
            seeds: [B] of each cell's noise; not read where `start` is given.
            start: [B, c, h, w] noise, such as `invert` gave; None draws it.

        Raises:
            InputError: the model was not trained for the mode.
        """
        if start is None:
            start = sampler.noise(seeds, self.made_for.latent_shape)

        def drawn(predict: sampler.Predict, x: Tensor) -> Tensor:
            return sampler.ddim(self.schedule, predict, x, sampling.steps)

        return self.carried(drawn, start, tokens, mode, sampling)

    def invert(self, latents: Tensor, tokens: Tensor, mode: str, sampling: Sampling) -> Tensor:
        """Return the noise [B, c, h, w] from which `sample` draws these latents, given the same tokens and settings.

        Args:
            latents: [B, c, h, w].
            tokens: [B, 2, 4, D] of the cells they show.
            mode: of `modes.MODES`.
            sampling: settings; tokens are not merged.

        Raises:
            InputError: the model was not trained for the mode.
        """
        whole = sampling.model_copy(update={"merge": type(sampling.merge)(way="none")})

        def undone(predict: sampler.Predict, x: Tensor) -> Tensor:
            return sampler.invert(self.schedule, predict, x, sampling.steps)

        return self.carried(undone, latents, tokens, mode, whole)
