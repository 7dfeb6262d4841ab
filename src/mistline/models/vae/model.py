"""The registered model: see `mistline.models.contract.Trainable`; it gives latents of images, and embeds no cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Context, Needs, Recipe, Source
from mistline.models.vae import pretrained
from mistline.models.vae.network import Network
from mistline.models.vae.params import Params

_ABOUT = "about"  # stored beside the weights: what shapes do not tell
_SAMPLE = 16  # training batches that tell how light images are, or how large the latents of a published network
_REMEDY = "restore them with their own settings, or train again"


class Model:
    """See `mistline.models.contract.Trainable`.

    Args:
        params: settings.
        channels: of the images, by name.
        config: arguments of AutoencoderKL.

    Attributes:
        latent_shape: (c, h, w).
        image_size: side of the images, pixels.
        channels: of the images, by name.
        genes: none are read.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, params: Params, channels: tuple[str, ...], config: Mapping[str, Any]) -> None:
        self.params, self.channels, self.image_size = params, channels, params.image_size
        self._config = dict(config)
        self.net = Network(config, len(channels), params.kl_weight)
        side = params.image_size // _down(config)
        self.latent_shape = (int(config["latent_channels"]), side, side)
        if params.weights is not None:
            self.net.requires_grad_(False)

    @classmethod
    def create(cls, params: Params, source: Source, context: Context) -> Model:
        """Return an untrained model that knows how light the images are; or a published one with its latents' scale.

        Raises:
            InputError: the source has no images, or a file does not fit.
        """
        channels = tuple(source.channels)
        if not channels:
            raise InputError("the slides", "they have no images, and the model reads images", "leave this model out")
        config = _config(params, channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "vae", "weights"))
            model = cls(params, channels, config)
        if params.weights is not None:
            pretrained.load(params, model.net.coder)
        model._measure(source, context)
        return model

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return a trained model from what `arrays` gave.

        Raises:
            InputError: the weights are of another network.
        """
        del genes
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        told = weights.pop(_ABOUT, None)
        if told is None:
            raise InputError("weights of vae", "they do not tell what they are of", "train again")
        about = json.loads(bytes(told.numpy().tobytes()))
        channels = tuple(about["channels"])
        if params.weights is None and about["config"] != _config(params, channels):
            raise InputError("weights of vae", "they are of a network of other settings", _REMEDY)
        model = cls(params, channels, about["config"])
        wanted = model.net.state_dict()
        differs = {name for name in set(wanted) & set(weights) if wanted[name].shape != weights[name].shape}
        for name in sorted(set(wanted) ^ set(weights) | differs):
            what = f"{name} is missing, of another shape, or not of this network"
            raise InputError("weights of vae", what, _REMEDY)
        model.net.load_state_dict(weights)
        model.net.eval()
        return model

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights, the moments of the latents, and what shapes do not tell."""
        told = json.dumps({"channels": list(self.channels), "config": self._config}, sort_keys=True).encode()
        found = {name: value.detach().cpu().numpy() for name, value in self.net.state_dict().items()}
        return {**found, _ABOUT: np.frombuffer(told, dtype=np.uint8)}

    def describe(self) -> dict[str, str]:
        """Return what the model card says of it."""
        latent = " x ".join(map(str, self.latent_shape))
        n_numbers = sum(value.numel() for value in self.net.coder.parameters())
        made = f"published, {self.params.weights}" if self.params.weights else "trained on this dataset"
        return {
            "what it is": "a variational autoencoder of cells' images",
            "image": f"{', '.join(self.channels)}, {self.image_size} px",
            "latents": f"{latent}, mean 0 and variance 1 in each channel over training cells",
            "weights": f"{made} ({n_numbers / 1e6:.2f} M)",
        }

    def recipe(self, train: Source) -> Recipe:
        """Return how it is trained; a published one takes no step."""
        del train
        params = self.params
        return Recipe(
            needs=self._needs(),
            steps=params.steps if params.weights is None else 0,
            warmup_steps=params.warmup_steps,
            clip=params.clip,
            validate_every=params.validate_every,
            val_batches=params.val_batches,
            save_every=params.save_every,
        )

    def groups(self) -> list[dict[str, Any]]:
        """Return all parameters, without decay; none of a published autoencoder."""
        own = [value for value in self.net.parameters() if value.requires_grad]
        return [{"params": own, "lr": self.params.learning_rate, "weight_decay": 0.0}]

    def prepare(self, batch: Batch, device: str) -> Tensor:
        """Return the images, uint8 [B, C, S, S], on the device."""
        image: Tensor = batch.image.to(device)
        return image

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the scaled latents.

        Args:
            image: uint8 [B, C, S, S], on the device of the network.

        Returns:
            float32 [B, c, h, w] each; an image's do not depend on the others.
        """
        self.net.eval()
        return self.net.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        """Return the images of scaled latents.

        Args:
            latent: float32 [B, c, h, w], on the device of the network.

        Returns:
            uint8 [B, C, S, S]; one does not depend on the others.
        """
        self.net.eval()
        return self.net.decode(latent)

    def _needs(self) -> Needs:
        return Needs(image_size=self.image_size, batch_size=self.params.train_batch)

    def _measure(self, source: Source, context: Context) -> None:
        """Learn from some training cells what is not trained."""
        found = source.batches(self._needs(), shuffle=derive(context.seed, "vae", "sample"))
        images = [self.prepare(batch, context.device) for batch in islice(found, _SAMPLE)]
        net = self.net.to(context.device)
        if self.params.weights is None:
            if images:
                net.look(torch.cat(images))
            return
        net.eval()
        for image in images:
            with torch.no_grad():
                net.notice(*net.posterior(net.signal(image)), memory=0.0)


def _config(params: Params, channels: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of AutoencoderKL.

    Raises:
        InputError: a published autoencoder takes other images.
    """
    if params.weights_config is not None:
        path = Path(params.weights_config)
        config = pretrained.read_config(path)
        takes, down = config["in_channels"], _down(config)
        if len(channels) not in (1, takes):
            what = f"it takes {takes} channels, and the images have {len(channels)} ({', '.join(channels)})"
            raise InputError(path, what, "train an autoencoder of your own: leave weights out")
        if params.image_size % down:
            what = f"it divides the side of an image by {down}, and image_size {params.image_size} is no multiple"
            raise InputError(path, what, "choose a multiple")
        return config
    n = len(params.widths)
    return {
        "in_channels": len(channels),
        "out_channels": len(channels),
        "down_block_types": ["DownEncoderBlock2D"] * n,
        "up_block_types": ["UpDecoderBlock2D"] * n,
        "block_out_channels": list(params.widths),
        "layers_per_block": params.layers,
        "latent_channels": params.latent_channels,
        "norm_num_groups": params.norm_groups,
        "sample_size": params.image_size,
        "mid_block_add_attention": params.attention,
    }


def _down(config: Mapping[str, Any]) -> int:
    return int(2 ** (len(config["block_out_channels"]) - 1))
