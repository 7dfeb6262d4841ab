"""The registered model: see `mistline.models.contract.Trainable` for its training; it draws latents, not embeddings."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from mistline.config.generation import Sampling
from mistline.models.contract import Context
from mistline.models.diffusion.generator import Generator, MadeFor, sizes_of
from mistline.models.diffusion.network import Asked
from mistline.models.diffusion.sampler import Predict
from mistline.models.flow.network import Inputs, Network
from mistline.models.flow.params import Params
from mistline.models.flow.path import midpoint


class Model(Generator):
    """A flow from the latents of control cells to those of target cells.

    Args:
        params: settings.
        made_for: what it is trained on.
    """

    KIND = "flow"
    SETTINGS = ("size", "token_width", "label", "transitions")
    net: Network

    def __init__(self, params: Params, made_for: MadeFor) -> None:
        asked = Asked(made_for.modes, params.condition_dropout)
        super().__init__(params, made_for, Network(sizes_of(params, made_for), asked, params.alpha))

    @classmethod
    def create(cls, params: Params, source: Any, context: Context) -> Self:
        """Return an untrained model; whitening and mean weight are those of training pairs.

        Args:
            params: settings.
            source: `train.pairs.PairSource` of the training pairs.
            context: where the seed comes from.

        Raises:
            InputError: the run that gives the conditions has no token for any of the modes.
        """
        model = super().create(params, source, context)
        model.net.fit_weights(torch.from_numpy(source.confidence))
        return model

    def describe(self) -> dict[str, str]:
        """Return what the model card says of it."""
        made, params = self.made_for, self.params
        n_weights = sum(value.numel() for value in self.net.unet.parameters())
        return {
            "is": f"a flow between cells in the latents of {made.image_size} x {made.image_size} px images, after "
            "arXiv 2507.04704 v2",
            "U-Net": f"{n_weights:,} weights, size {params.size}, of latents {' x '.join(map(str, made.latent_shape))}",
            "transitions": ", ".join(f"{control} -> {target}" for control, target in params.transitions),
            "pairs": f"cells of one {params.niche}, by column {params.label}",
            "draws": ", ".join(made.modes),
            "autoencoder": f"{params.autoencoder}, sha256 {made.autoencoder_sha256}",
            "condition": f"{params.condition}, sha256 {made.condition_sha256}",
        }

    def prepare(self, batch: Any, device: str) -> Inputs:
        """Return a `train.pairs.PairBatch` as the network takes it, on the device."""
        return Inputs(batch.start, batch.mean, batch.tokens, batch.weight).to(device)

    def draw(self, cells: Any, mode: str, sampling: Sampling, seed: int) -> Tensor:
        """Return [B, c, h, w], latents that control cells are carried to, as their targets' tokens say.

        Args:
            cells: a `train.pairs.PairBatch`, of which `start` and `tokens` are read.
            mode: of `models.diffusion.modes.MODES`.
            sampling: settings; `steps` are midpoint steps.
            seed: not read: a flow draws nothing.
        """
        del seed
        return self.sample(cells.start, cells.tokens, mode, sampling)

    def sample(self, start: Tensor, tokens: Tensor, mode: str, sampling: Sampling) -> Tensor:
        """Return latents [B, c, h, w], in float32 on the CPU.

        Guidance is v_u + w (v_c - v_u); the published (1 + s) v_c - s v_u is that of w = 1 + s.

        Args:
            start: [B, c, h, w] latents of the control cells.
            tokens: [B, 2, 4, D] of the target cells, by reading and token.
            mode: of `models.diffusion.modes.MODES`.
            sampling: settings.

        Raises:
            InputError: the model was not trained for the mode.
        """

        def carried(velocity: Predict, x: Tensor) -> Tensor:
            return midpoint(velocity, x, sampling.steps)

        return self.carried(carried, start, tokens, mode, sampling)
