"""A published AutoencoderKL: its configuration and weights, from files on disk, by the names diffusers gives them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.models import weights
from mistline.models.vae.params import Params

_REMEDY = "give the config.json and weights of the same AutoencoderKL"
_HOW = "copy it by hand, such as from huggingface.co stabilityai/sd-vae-ft-mse; nothing is downloaded"
# Weights that were saved before diffusers 0.18 name the layers of attention otherwise.
_OLD_ATTENTION = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_config(path: Path) -> dict[str, Any]:
    """Return the arguments of AutoencoderKL from its config.json.

    Raises:
        InputError: it is missing, or describes something else.
    """
    told = read_json(path)
    if not isinstance(told, dict) or told.get("_class_name") != "AutoencoderKL":
        raise InputError(path, "it does not describe an AutoencoderKL", _REMEDY)
    known = {name: of.default for name, of in inspect.signature(AutoencoderKL.__init__).parameters.items()}
    foreign = sorted(name for name in told if name not in known and not name.startswith("_"))
    if foreign:
        raise InputError(path, f"it has a setting {foreign[0]} that AutoencoderKL does not know", _REMEDY)
    usual = {name: value for name, value in known.items() if name != "self"}
    found: dict[str, Any] = json.loads(json.dumps({**usual, **{name: told[name] for name in told if name in usual}}))
    return found


def load(params: Params, coder: nn.Module) -> None:
    """Put the file's weights into a network.

    Raises:
        InputError: the file is missing, another one, damaged, or of another network.
    """
    path = Path(str(params.weights))
    weights.check(path, str(params.weights_sha256), "weights_sha256", _HOW)
    weights.fill(coder, _renamed(weights.read(path)), path, _REMEDY)


def _renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in given.items():
        match = _OLD_ATTENTION.fullmatch(name)
        found[f"{match[1]}.{_NEW_ATTENTION[match[2]]}.{match[3]}" if match else name] = value
    return found
