"""Drawing the images of encoded cells with a trained generator."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.config.generation import Sampling
from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import generator, ranked
from mistline.models.diffusion.modes import MODES
from mistline.store.latents import LatentOrigin

_DECODED_AT_ONCE = 64

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Drawer:
    """A generator with the autoencoder whose latents it draws, both on one device.

    Args:
        model: a generator, such as `mistline.models.diffusion.model.Model`: `draw(cells, mode, sampling, seed)` gives
            latents, and `made_for` says what it was trained on.
        autoencoder: `mistline.models.vae.model.Model`.
        device: a torch device.
    """

    model: Any
    autoencoder: Any
    device: str

    @classmethod
    def on(cls, device: str, model: Any, autoencoder: Any) -> Drawer:
        """Return both, moved to a device."""
        for one in (model, autoencoder):
            one.net.to(device).eval()
        return cls(model, autoencoder, device)

    def decode(self, latents: Tensor) -> Images:
        """Return uint8 [B, C, S, S] of latents [B, c, h, w]."""
        parts = latents.split(_DECODED_AT_ONCE)
        with torch.no_grad():
            return np.concatenate([self.autoencoder.decode(part.to(self.device)).cpu().numpy() for part in parts])


@dataclass(frozen=True, slots=True)
class Drawn:
    """Images of n cells.

    Args:
        images: `generated`; `dealt`, with the condition of another cell and the same noise; `autoencoder`, the cells'
            own images through the autoencoder; of a flow `start`, those of the cells it starts from; each uint8
            [n, C, S, S].
        seconds_per_image: wall time of the sampler for one of `generated`, decoding aside.
    """

    images: Mapping[str, Images]
    seconds_per_image: float


def check(made_for: Any, origin: LatentOrigin, autoencoder_sha256: str, where: str) -> None:
    """Refuse latents or an autoencoder that a generator does not know.

    Args:
        made_for: `Model.made_for` of the generator.
        origin: of the latents.
        autoencoder_sha256: hash of the weights of the autoencoder that is to decode.
        where: the generator's file.

    Raises:
        InputError: latents of another autoencoder, or conditions of another run.
    """
    remedy = "give the ones that it was trained with, or train the generator again"
    if made_for.autoencoder_sha256 != origin.autoencoder_sha256:
        raise InputError(where, f"latents of another autoencoder ({_known(origin, made_for)})", remedy)
    if made_for.autoencoder_sha256 != autoencoder_sha256:
        what = f"another autoencoder is to decode its latents ({autoencoder_sha256[:12]})"
        raise InputError(where, what, remedy)
    if made_for.condition_sha256 != origin.condition_sha256:
        raise InputError(where, f"conditions of another run ({origin.condition_sha256[:12]})", remedy)


def check_protocol(made_for: Any, protocol: str) -> None:
    """Refuse a protocol that a generator cannot draw.

    Raises:
        ConfigError: there is no such protocol, the run of its conditions gives no token for it, or it was not trained.
    """
    remedy = f"choose one of {', '.join(made_for.modes)}"
    if protocol not in MODES:
        raise ConfigError("--protocol", f"unknown protocol {protocol!r}", remedy)
    if not MODES[protocol].is_offered(made_for.present):
        mode = MODES[protocol]
        what = f"{protocol} reads {', '.join(mode.tokens)} from {mode.reading}, and the condition's run gives none"
        raise ConfigError("--protocol", what, remedy)
    if protocol not in made_for.modes:
        raise ConfigError("--protocol", f"the generator was not trained for {protocol}", remedy)


def tested(cells: pd.DataFrame, n_cells: int) -> NDArray[np.int64]:
    """Return rows of the cells that are drawn: of each slide the first `n_cells` of a draw, slide after slide.

    Args:
        cells: test cells; `slide` and `cell_id` are read.
        n_cells: of each slide, at most.

    Raises:
        InputError: there is no test cell.
    """
    found = []
    for slide, own in cells.reset_index(drop=True).groupby("slide", sort=False):
        order = ranked(own["cell_id"].tolist(), 0, "generation", str(slide))
        found.append(own.index.to_numpy(dtype=np.int64)[order[:n_cells]])
    if not found:
        raise InputError("latents", "none of the encoded cells is in the test split", "look at splits.json")
    return np.concatenate(found)


def dealt(n: int, seed: int) -> NDArray[np.int64]:
    """Return int64 [n], another cell for each cell; a cell alone is left to itself."""
    order = generator(seed, "generate", "dealt").permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


def draw(drawer: Drawer, cells: Any, protocol: str, sampling: Sampling, seed: int) -> Drawn:
    """Draw the cells' images.

    Args:
        drawer: what draws.
        cells: [n] a `train.latents.LatentBatch`.
        protocol: of `models.diffusion.modes.MODES`.
        sampling: settings.
        seed: of the noise, which comes from it and each cell's name.
    """
    model, n = drawer.model, len(cells.record_id)
    begun = time.perf_counter()
    generated = model.draw(cells, protocol, sampling, seed)
    seconds = time.perf_counter() - begun
    others = replace(cells, tokens=cells.tokens[torch.from_numpy(dealt(n, seed))])
    latents = {
        "generated": generated,
        "dealt": model.draw(others, protocol, sampling, seed),
        "autoencoder": cells.mean,
    }
    if hasattr(cells, "start"):
        latents["start"] = cells.start
    return Drawn({name: drawer.decode(own) for name, own in latents.items()}, seconds / n)


def _known(origin: LatentOrigin, made_for: Any) -> str:
    return f"{origin.autoencoder_sha256[:12]}, it was trained on those of {made_for.autoencoder_sha256[:12]}"
