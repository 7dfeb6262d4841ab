"""An encoder's network: made without any download, its weights drawn by seed or read from a file.

`B` images, `C` channels, `S` side in pixels, `D` features.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mistline.core.errors import ConfigError
from mistline.models import weights
from mistline.models.encoder.layouts import LAYOUTS
from mistline.models.encoder.params import Params
from mistline.models.encoder.presets import Encoder
from mistline.models.encoder.towers import built

_CLASSIFIERS = ("fc.", "head.", "classifier.", "head_dist.", "last_linear.")


def create(params: Params, seed: int) -> nn.Module:
    """Return the network without its classifier, for inference.

    Args:
        params: which network.
        seed: of random weights; a file's weights do not depend on it.

    Raises:
        ConfigError: timm has no such architecture, it refuses an option, or it takes no images of that size.
        InputError: the weights are not readable, not those of the hash, or not of this network.
    """
    network = _built(params, seed)
    if params.weights is not None:
        _fill(network, Path(params.weights), str(params.weights_sha256), params.encoder)
    _try(network, params.encoder)
    return network


def empty(params: Params, arrays: Mapping[str, Any]) -> nn.Module:
    """Return the network with weights from named arrays."""
    network = _built(params, 0)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


def inputs(image: Tensor, params: Params) -> list[Tensor]:
    """Turn uint8 [B, C, R, R] into what the network reads: float32 [B, 3, S, S], one or one for each channel.

    R is the side that images are read at; the network reads the centre, S of those pixels a side.
    """
    encoder = params.encoder
    edge = (image.shape[-1] - encoder.size) // 2 if encoder.read_size else 0
    light = image[..., edge : image.shape[-2] - edge, edge : image.shape[-1] - edge].float() / 255
    n_channels = light.shape[1]
    if params.channels == "mean":
        light = light.mean(dim=1, keepdim=True)
    colours = params.channels != "each" and n_channels in (1, 3)
    parts = [light] if colours or params.channels == "mean" else list(light.split(1, dim=1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(light) for values in (encoder.mean, encoder.std))
    return [(part.expand(-1, 3, -1, -1) - mean) / std for part in parts]


def _built(params: Params, seed: int) -> nn.Module:
    encoder = params.encoder
    if encoder.layout != "conch" and not timm.is_model(encoder.architecture):
        near = difflib.get_close_matches(encoder.architecture, timm.list_models(), n=1)
        remedy = f"did you mean {near[0]}" if near else "timm.list_models() lists them"
        raise ConfigError("models: encoder, name", f"timm has no network {encoder.architecture!r}", remedy)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = built(encoder)
        except TypeError as error:
            raise ConfigError("models: encoder, options", str(error), "remove the option") from None
    return network.eval().requires_grad_(False)


def _try(network: nn.Module, encoder: Encoder) -> None:
    side = encoder.size
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        what = f"{encoder.architecture} takes no images of {side} px ({weights.first_line(error)})"
        raise ConfigError("models: encoder, image_size", what, "choose the size it was made for, or img_size") from None


def _fill(network: nn.Module, path: Path, sha256: str, encoder: Encoder) -> None:
    weights.check(path, sha256, "weights_sha256", encoder.how or "correct weights of the encoder")
    own = network.state_dict()
    theirs = LAYOUTS[encoder.layout](weights.read(path))
    given = {name: value for name, value in theirs.items() if name in own or not name.startswith(_CLASSIFIERS)}
    weights.fill(network, given, path, "give the preset, or name and options, of the network these weights are of")
