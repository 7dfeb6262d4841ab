"""A network of timm: made without any download, its weights drawn by seed or read from a file.

`B` images, `C` channels, `S` side in pixels, `D` features.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.models.encoder.params import Params

_WRAPPERS = ("state_dict", "model")  # keys under which training scripts put the weights
_REFUSED = torch.serialization.pickle.UnpicklingError  # what torch raises where a file asks to run code
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
        _fill(network, Path(params.weights), str(params.weights_sha256))
    _try(network, params)
    return network


def empty(params: Params, arrays: Mapping[str, Any]) -> nn.Module:
    """Return the network with weights from named arrays."""
    network = _built(params, 0)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


def inputs(image: Tensor, params: Params) -> list[Tensor]:
    """Turn uint8 [B, C, S, S] into what the network reads: float32 [B, 3, S, S], one or one for each channel."""
    light = image.float() / 255
    n_channels = light.shape[1]
    if params.channels == "mean":
        light = light.mean(dim=1, keepdim=True)
    colours = params.channels != "each" and n_channels in (1, 3)
    parts = [light] if colours or params.channels == "mean" else list(light.split(1, dim=1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(light) for values in (params.mean, params.std))
    return [(part.expand(-1, 3, -1, -1) - mean) / std for part in parts]


def _built(params: Params, seed: int) -> nn.Module:
    if not timm.is_model(params.name):
        near = difflib.get_close_matches(params.name, timm.list_models(), n=1)
        remedy = f"did you mean {near[0]}" if near else "timm.list_models() lists them"
        raise ConfigError("models: encoder, name", f"timm has no network {params.name!r}", remedy)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = timm.create_model(params.name, pretrained=False, num_classes=0, **params.options)
        except TypeError as error:
            raise ConfigError("models: encoder, options", str(error), "remove the option") from None
    return network.eval().requires_grad_(False)


def _try(network: nn.Module, params: Params) -> None:
    side = params.image_size
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        what = f"{params.name} takes no images of {side} px ({_first_line(error)})"
        raise ConfigError("models: encoder, image_size", what, "choose the size it was made for, or img_size") from None


def _fill(network: nn.Module, path: Path, sha256: str) -> None:
    if not path.is_file():
        raise InputError(path, "no such file", "correct weights of the encoder")
    found = hash_file(path)
    if found != sha256:
        raise InputError(path, f"its sha256 is {found}, not weights_sha256", "copy it again, or correct the hash")
    own = network.state_dict()
    given = {name: value for name, value in _read(path).items() if name in own or not name.startswith(_CLASSIFIERS)}
    wrong = sorted(name for name in own if name in given and given[name].shape != own[name].shape)
    for what, names in (
        ("lacks", sorted(set(own) - set(given))),
        ("has, and the network does not,", sorted(set(given) - set(own))),
        ("has in another shape", wrong),
    ):
        if names:
            told = f"it {what} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            raise InputError(path, told, "give name and options of the network that these weights are of")
    network.load_state_dict(given)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except _REFUSED:
        raise InputError(
            path, "no weights, or more than weights, and is not opened", "save it as safetensors"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(path, f"not readable weights ({_first_line(error)})", "copy it again") from None
    for key in _WRAPPERS:
        if isinstance(found.get(key), dict):
            found = found[key]
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(path, "it holds more than weights", "save the state dict alone, as safetensors")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
