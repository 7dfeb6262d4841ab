"""The registered model: see `mistline.models.contract.Trainable` for its training; it draws latents, not embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.config.generation import Sampling
from mistline.core.errors import InputError
from mistline.core.seeds import derive
from mistline.models.contract import Context, Needs, Recipe
from mistline.models.diffusion import sampler
from mistline.models.diffusion.average import PREFIX
from mistline.models.diffusion.conditions import MODE_NUMBERS
from mistline.models.diffusion.model import MadeFor, sample_tokens
from mistline.models.diffusion.network import Asked, Sizes
from mistline.models.diffusion.unet import SIZES
from mistline.models.flow.network import Inputs, Network
from mistline.models.flow.params import Params
from mistline.models.flow.path import midpoint

_ABOUT = "about"  # stored beside the weights: what shapes do not tell
_REMEDY = "restore them with their own settings, or train again"
_SETTINGS = ("size", "token_width", "label", "transitions")  # the same when weights are restored


class Model:
    """A flow from the latents of control cells to those of target cells.

    Args:
        params: settings.
        made_for: what it is trained on.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, params: Params, made_for: MadeFor) -> None:
        self.params, self.made_for = params, made_for
        sizes = Sizes(
            SIZES[params.size], made_for.latent_shape[0], made_for.width, params.token_width, made_for.present
        )
        self.net = Network(sizes, Asked(made_for.modes, params.condition_dropout), params.alpha)
        # A step of training updates the average once for each batch whose gradients it adds up.
        self.net.average_with(params.ema ** (1 / params.accumulate))

    @classmethod
    def create(cls, params: Params, source: Any, context: Context) -> Model:
        """Return an untrained model; whitening and mean weight are those of training pairs.

        Args:
            params: settings.
            source: `train.pairs.PairSource` of the training pairs.
            context: where the seed comes from.

        Raises:
            InputError: the run that gives the conditions has no token for any of the modes.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "flow", "weights"))
            model = cls(params, MadeFor.of(source, params.modes))
        model.net.conditions.fit(sample_tokens(source, derive(context.seed, "flow", "whitening")))
        model.net.fit_weights(torch.from_numpy(source.confidence))
        return model

    @classmethod
    def restore(cls, params: Params, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Model:
        """Return a trained model from what `arrays` gave.

        Raises:
            InputError: the weights are of other settings or of another network.
        """
        del genes
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        told = weights.pop(_ABOUT, None)
        if told is None:
            raise InputError("weights of flow", "they do not tell what they are of", "train again")
        about = json.loads(bytes(told.numpy().tobytes()))
        for name, own in _settings(params).items():
            if about["settings"].get(name) != own:
                what = f"they are of a model with {name} {about['settings'].get(name)}, the settings say {own}"
                raise InputError("weights of flow", what, _REMEDY)
        model = cls(params, MadeFor.from_json(about["made_for"]))
        wanted = {name: value for name, value in model.net.state_dict().items() if not name.startswith(PREFIX)}
        same = (name for name in wanted if name in weights and weights[name].shape == wanted[name].shape)
        for name in sorted({*wanted, *weights} - set(same)):
            what = f"{name} is missing, of another shape, or not of this network"
            raise InputError("weights of flow", what, _REMEDY)
        model.net.load_state_dict(weights, strict=False)
        model.net.average.reset()
        model.net.eval()
        return model

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the averaged weights, which draw the images, and what their shapes do not tell."""
        told = {"settings": _settings(self.params), "made_for": asdict(self.made_for)}
        with self.net.average.applied():
            state = {name: value for name, value in self.net.state_dict().items() if not name.startswith(PREFIX)}
            found = {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
        return {**found, _ABOUT: np.frombuffer(json.dumps(told, sort_keys=True).encode(), dtype=np.uint8)}

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

    def recipe(self, train: Any) -> Recipe:
        """Return how it is trained."""
        del train
        params = self.params
        return Recipe(
            needs=Needs(batch_size=params.train_batch),
            steps=params.steps,
            accumulate=params.accumulate,
            warmup_steps=params.warmup_steps,
            clip=params.clip,
            validate_every=params.validate_every,
            val_batches=params.val_batches,
            save_every=params.save_every,
        )

    def groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; norms, biases and embeddings are not pulled to zero."""
        params = self.params
        embeddings = ("conditions.place", "conditions.of_reading", "conditions.null")
        found: dict[float, list[Tensor]] = {}
        for name, value in self.net.named_parameters():
            is_plain = value.ndim < 2 or name in embeddings
            found.setdefault(0.0 if is_plain else params.weight_decay, []).append(value)
        return [{"params": own, "lr": params.learning_rate, "weight_decay": decay} for decay, own in found.items()]

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

    @torch.no_grad()
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
        if mode not in self.made_for.modes:
            remedy = f"choose one of {', '.join(self.made_for.modes)}"
            raise InputError(mode, "this generator was not trained for it", remedy)
        net, size, found = self.net.eval(), sampling.batch_size, []
        device = net.conditions.mean.device
        with net.average.applied():
            for first in range(0, len(start), size):
                own = tokens[first : first + size].to(device)
                number = torch.full((len(own),), MODE_NUMBERS[mode], device=device)
                with sampler.guided(net, net.conditions(own, number), sampling) as velocity:
                    drawn = midpoint(velocity, start[first : first + size].to(device), sampling.steps)
                found.append(drawn.float().cpu())
        return torch.cat(found) if found else start


def _settings(params: Params) -> dict[str, Any]:
    """Return settings that must be the same when weights are restored, and shapes do not tell."""
    return {name: value for name, value in params.model_dump(mode="json").items() if name in _SETTINGS}
