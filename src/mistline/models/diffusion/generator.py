"""What generators of images have in common: what they are made for, their weights, and how they are trained and run.

`B` cells; latents are [B, c, h, w].
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

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
from mistline.models.diffusion.conditions import MODE_NUMBERS, SAMPLE
from mistline.models.diffusion.modes import offered
from mistline.models.diffusion.network import Denoiser, Sizes
from mistline.models.diffusion.unet import SIZES
from mistline.models.weights import fill

logger = logging.getLogger("mistline.models")

_ABOUT = "about"  # stored beside the weights: what shapes do not tell
_REMEDY = "restore them with their own settings, or train again"

Way = Callable[[sampler.Predict, Tensor], Tensor]  # from latents [B, c, h, w] to others, by what a network predicts


@dataclass(frozen=True, slots=True)
class MadeFor:
    """What a generator was trained on, and can be used with.

    Args:
        autoencoder_sha256: hash of the weights that made its latents.
        condition_sha256: hash of the weights that made its conditions.
        image_size: side of the encoded images, pixels.
        latent_shape: (c, h, w).
        width: of the condition encoder, D.
        present: [2][4] tokens that it gives, by reading and token.
        modes: ways of asking that were trained.
    """

    autoencoder_sha256: str
    condition_sha256: str
    image_size: int
    latent_shape: tuple[int, ...]
    width: int
    present: tuple[tuple[bool, ...], ...]
    modes: tuple[str, ...]

    @classmethod
    def of(cls, source: Any, modes: Sequence[str]) -> MadeFor:
        """Return what the latents of a `train.latents.LatentSource` ask for.

        Args:
            source: of training cells.
            modes: ways of asking that are wanted; those for which the condition's run gives no token are left out.

        Raises:
            InputError: it gives none for any of them.
        """
        own = offered(source.present)
        left = tuple(mode for mode in modes if mode in own)
        lost = ", ".join(mode for mode in modes if mode not in own)
        if not left:
            what = f"the run that gives the conditions has no token for {lost}"
            raise InputError("latents", what, "give a run of spatia with more levels, or name other modes")
        if lost:
            logger.warning("the run that gives the conditions has no token for %s: not trained", lost)
        origin = source.origin
        hashes = (origin.autoencoder_sha256, origin.condition_sha256)
        return cls(*hashes, origin.image_size, source.latent_shape, source.token_shape[-1], source.present, left)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> MadeFor:
        """Return what `asdict` gave, after JSON."""
        present = tuple(tuple(map(bool, reading)) for reading in told["present"])
        lists = {name: tuple(told[name]) for name in ("latent_shape", "modes")}
        return cls(**{**told, **lists, "present": present})


class Generator:
    """A network that draws latents; a kind of generator is a subclass that is made from settings and `MadeFor` alone.

    Args:
        params: settings.
        made_for: what it is trained on.
        net: the network, without the average of its weights.
    """

    KIND = ""
    SETTINGS: tuple[str, ...] = ()  # the same when weights are restored, where shapes do not tell
    genes: tuple[str, ...] = ()

    def __init__(self, params: Any, made_for: MadeFor, net: Denoiser) -> None:
        self.params, self.made_for, self.net = params, made_for, net
        # A step of training updates the average once for each batch whose gradients it adds up.
        net.average_with(params.ema ** (1 / params.accumulate))

    @classmethod
    def create(cls, params: Any, source: Any, context: Context) -> Self:
        """Return an untrained model whose whitening is that of training cells.

        Args:
            params: settings.
            source: `train.latents.LatentSource` of the training cells, or what gives such batches.
            context: where the seed comes from.

        Raises:
            InputError: the run that gives the conditions has no token for any of the modes.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, cls.KIND, "weights"))
            model = cls(params, MadeFor.of(source, params.modes))  # type: ignore[call-arg]
        model.net.conditions.fit(sample_tokens(source, derive(context.seed, cls.KIND, "whitening")))
        return model

    @classmethod
    def restore(cls, params: Any, arrays: Mapping[str, NDArray[Any]], genes: tuple[str, ...]) -> Self:
        """Return a trained model from what `arrays` gave.

        Raises:
            InputError: the weights are of other settings or of another network.
        """
        del genes
        where = f"weights of {cls.KIND}"
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        told = weights.pop(_ABOUT, None)
        if told is None:
            raise InputError(where, "they do not tell what they are of", "train again")
        about = json.loads(bytes(told.numpy().tobytes()))
        for name, own in cls.settings(params).items():
            if about["settings"].get(name) != own:
                what = f"they are of a model with {name} {about['settings'].get(name)}, the settings say {own}"
                raise InputError(where, what, _REMEDY)
        model = cls(params, MadeFor.from_json(about["made_for"]))  # type: ignore[call-arg]
        fill(model.net, weights, where, _REMEDY, without=PREFIX)
        model.net.average.reset()
        model.net.eval()
        return model

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the averaged weights, which draw the images, and what their shapes do not tell."""
        told = {"settings": self.settings(self.params), "made_for": asdict(self.made_for)}
        with self.net.average.applied():
            state = {name: value for name, value in self.net.state_dict().items() if not name.startswith(PREFIX)}
            found = {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
        return {**found, _ABOUT: np.frombuffer(json.dumps(told, sort_keys=True).encode(), dtype=np.uint8)}

    @classmethod
    def settings(cls, params: Any) -> dict[str, Any]:
        """Return settings that must be the same when weights are restored, and shapes do not tell."""
        return {name: value for name, value in params.model_dump(mode="json").items() if name in cls.SETTINGS}

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

    @torch.no_grad()
    def carried(self, way: Way, x: Tensor, tokens: Tensor, mode: str, sampling: Sampling) -> Tensor:
        """Return what a way through the noise, or from cell to cell, makes of x; float32, on the CPU.

        Args:
            way: by what the network predicts.
            x: [B, c, h, w] to begin with.
            tokens: [B, 2, 4, D], by reading and token.
            mode: of `modes.MODES`.
            sampling: guidance, merging, and how many cells are computed at once.

        Raises:
            InputError: the model was not trained for the mode.
        """
        if mode not in self.made_for.modes:
            remedy = f"choose one of {', '.join(self.made_for.modes)}"
            raise InputError(mode, "this generator was not trained for it", remedy)
        net, size, found = self.net.eval(), sampling.batch_size, []
        device = net.conditions.mean.device
        with net.average.applied():
            for first in range(0, len(x), size):
                own = tokens[first : first + size].to(device)
                number = torch.full((len(own),), MODE_NUMBERS[mode], device=device)
                with sampler.guided(net, net.conditions(own, number), sampling) as predict:
                    drawn = way(predict, x[first : first + size].to(device))
                found.append(drawn.float().cpu())
        return torch.cat(found) if found else x


def sizes_of(params: Any, made_for: MadeFor) -> Sizes:
    """Return the sizes of the denoiser."""
    return Sizes(SIZES[params.size], made_for.latent_shape[0], made_for.width, params.token_width, made_for.present)


def sample_tokens(source: Any, seed: int) -> Tensor:
    """Return [n, 2, 4, D], tokens of at most `SAMPLE` training cells, drawn by the seed.

    Raises:
        InputError: there is no training cell.
    """
    if not source.count():
        raise InputError("latents", "none of the encoded cells is in the training split", "look at splits.json")
    batches = source.batches(Needs(batch_size=min(SAMPLE, source.count())), shuffle=seed)
    found: Tensor = next(iter(batches)).tokens
    return found
