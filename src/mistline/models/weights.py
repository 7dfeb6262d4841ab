"""Published weights: read from a file on disk whose hash is known, and put into a network that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mistline.core.errors import InputError, first_line
from mistline.core.hashing import hash_file

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which training scripts put the weights
_REFUSED = torch.serialization.pickle.UnpicklingError  # what torch raises where a file asks to run code


def check(path: Path, sha256: str, key: str, how: str) -> None:
    """Refuse a file that is not there or is another one.

    Args:
        path: of the file.
        sha256: what its hash must be.
        key: setting that names the hash.
        how: where the file is had.

    Raises:
        InputError: there is no such file, or its hash differs.
    """
    if not path.is_file():
        raise InputError(path, "no such file", how)
    found = hash_file(path)
    if found != sha256:
        raise InputError(path, f"its sha256 is {found}, not {key}", "copy it again, or correct the hash")


def read(path: Path) -> dict[str, Tensor]:
    """Read name -> tensor from a safetensors file or a state dict of torch; nothing in it is run.

    Raises:
        InputError: it is damaged, holds more than weights, or asks to run code.
    """
    try:
        if path.suffix == ".safetensors":
            found: dict[str, Any] = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except _REFUSED:
        raise InputError(
            path, "no weights, or more than weights, and is not opened", "save it as safetensors"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(path, f"not readable weights ({first_line(error)})", "copy it again") from None
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(path, "it holds more than weights", "save the state dict alone, as safetensors")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def fill(
    network: nn.Module, given: Mapping[str, Tensor], where: Path | str, remedy: str, without: str | None = None
) -> None:
    """Put weights into a network.

    Args:
        network: whose every weight must be given, and no other.
        given: by the network's own names.
        where: they are from.
        remedy: what to do where they are of another network.
        without: how names begin of weights that are not given, and stay as they are.

    Raises:
        InputError: a weight is missing, foreign or of another shape; names the first.
    """
    own = {name: value for name, value in network.state_dict().items() if not without or not name.startswith(without)}
    wrong = sorted(name for name in own if name in given and given[name].shape != own[name].shape)
    for what, names in (
        ("lacks", sorted(set(own) - set(given))),
        ("has, and the network does not,", sorted(set(given) - set(own))),
        ("has in another shape", wrong),
    ):
        if names:
            told = f"it {what} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            raise InputError(where, told, remedy)
    network.load_state_dict(dict(given), strict=without is None)
