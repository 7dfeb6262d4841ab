"""The registered model: see `mistline.models.contract.Trainable` for its training; it draws latents, not embeddings."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from mistline.models.diffusion.conditions import MODE_NUMBERS, SAMPLE
from mistline.models.diffusion.modes import READINGS, TOKENS, offered
from mistline.models.diffusion.network import Asked, Inputs, Network, Sizes
from mistline.models.diffusion.noise import Schedule
from mistline.models.diffusion.params import Params
from mistline.models.diffusion.unet import SIZES

logger = logging.getLogger("mistline.models")

_ABOUT = "about"  # stored beside the weights: what shapes do not tell
_REMEDY = "restore them with their own settings, or train again"


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


class Model:
    """A generator of latents from noise.

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
        self.schedule = Schedule(params.n_noise_steps, params.beta_start, params.beta_end, params.prediction)
        self.net = Network(sizes, Asked(made_for.modes, params.condition_dropout), self.schedule)
        # A step of training updates the average once for each batch whose gradients it adds up.
        self.net.average_with(params.ema ** (1 / params.accumulate))

    @classmethod
    def create(cls, params: Params, source: Any, context: Context) -> Model:
        """Return an untrained model whose whitening is that of training cells.

        Args:
            params: settings.
            source: `train.latents.LatentSource` of the training cells.
            context: where the seed comes from.

        Raises:
            InputError: the run that gives the conditions has no token for any of the modes.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "diffusion", "weights"))
            model = cls(params, MadeFor.of(source, params.modes))
        model.net.conditions.fit(sample_tokens(source, derive(context.seed, "diffusion", "whitening")))
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
            raise InputError("weights of diffusion", "they do not tell what they are of", "train again")
        about = json.loads(bytes(told.numpy().tobytes()))
        for name, own in _settings(params).items():
            if about["settings"].get(name) != own:
                what = f"they are of a model with {name} {about['settings'].get(name)}, the settings say {own}"
                raise InputError("weights of diffusion", what, _REMEDY)
        model = cls(params, MadeFor.from_json(about["made_for"]))
        wanted = {name: value for name, value in model.net.state_dict().items() if not name.startswith(PREFIX)}
        same = (name for name in wanted if name in weights and weights[name].shape == wanted[name].shape)
        for name in sorted({*wanted, *weights} - set(same)):
            what = f"{name} is missing, of another shape, or not of this network"
            raise InputError("weights of diffusion", what, _REMEDY)
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

    @torch.no_grad()
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
        return self._through(sampler.ddim, start, tokens, mode, sampling)

    @torch.no_grad()
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
        return self._through(sampler.invert, latents, tokens, mode, whole)

    def _through(self, way: Any, x: Tensor, tokens: Tensor, mode: str, sampling: Sampling) -> Tensor:
        """Go from noise to latents or back, some cells at a time."""
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
                    drawn = way(self.schedule, predict, x[first : first + size].to(device), sampling.steps)
                found.append(drawn.float().cpu())
        return torch.cat(found) if found else x


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


def _settings(params: Params) -> dict[str, Any]:
    """Return settings that must be the same when weights are restored, and shapes do not tell."""
    names = ("size", "token_width", "prediction", "n_noise_steps", "beta_start", "beta_end")
    return {name: getattr(params, name) for name in names}
