"""The state of an unfinished training: one safetensors file, written in one step, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from mistline.core.errors import InputError, ResourceError
from mistline.core.files import atomic_path

FILE = "training.safetensors"
_KEY = "state"


@dataclass(slots=True)
class Course:
    """How far a training is; JSON keeps every number exactly.

    Attributes:
        step: steps done.
        epoch: of the next batch.
        batch: its place in the epoch of this rank.
        rows: of metrics, so far.
        window: loss -> [sum, weight] since the last row.
        best: lowest `val_loss`; None before the first validation.
        waited: validations since then.
        finished: whether nothing is left to do.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    window: dict[str, list[float]] = field(default_factory=dict)
    best: float | None = None
    waited: int = 0
    finished: bool = False


@dataclass(slots=True)
class State:
    """What a training needs to go on as if it had not been stopped.

    Every draw of a step has a seed of its own, so that no state of a random generator is kept.

    Args:
        net: whose weights and buffers are trained.
        optimizer: over its parameters.
        course: how far it is.
        best: weights of the lowest `val_loss`; empty where they are not kept.
    """

    net: nn.Module
    optimizer: Optimizer
    course: Course = field(default_factory=Course)
    best: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the state; a process killed meanwhile leaves the one before.

        Args:
            path: of the file.
            identity: what is trained and how; `load` compares it.
        """
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{number}/{name}": value for name, value in values.items()}
        text = json.dumps({"identity": identity, "course": asdict(self.course)})
        with atomic_path(path) as part:  # clones: weights that share memory would be refused
            save_file({name: value.detach().cpu().clone() for name, value in tensors.items()}, part, {_KEY: text})

    def load(self, path: Path, identity: Mapping[str, Any]) -> bool:
        """Take up a state; returns False where there is none.

        Raises:
            InputError: the file is damaged.
            ResourceError: it is of a training with other settings.
        """
        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                told = json.loads(file.metadata()[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(path, f"not a readable state of a training ({error})", "remove it") from None
        _compare(path, told["identity"], json.loads(json.dumps(identity)))
        self.net.load_state_dict(_under("net/", tensors))
        self._load_optimizer(_under("adam/", tensors))
        self.best = _under("best/", tensors)
        self.course = Course(**told["course"])
        return True

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        whole = self.optimizer.state_dict()
        whole["state"] = {}
        for name, value in tensors.items():
            number, key = name.split("/")
            whole["state"].setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict(whole)

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best = {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}

    def restore_best(self) -> None:
        """Give the net the weights that were remembered, where there are any."""
        if self.best:
            self.net.load_state_dict(self.best)


def describe(net: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return what of a net and its optimizer a state must fit: names, shapes, learning rates, weight decays."""
    shapes = {name: [*value.shape, str(value.dtype)] for name, value in net.state_dict().items()}
    groups = [
        {"numbers": len(group["params"]), "lr": group["initial_lr"], "weight_decay": group["weight_decay"]}
        for group in optimizer.param_groups
    ]
    return {"weights": shapes, "groups": groups}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            shown = f" ({before.get(name)}, now {now.get(name)})" if not isinstance(now.get(name), dict | list) else ""
            what = f"the unfinished training there has other {name}{shown}"
            raise ResourceError(path, what, "run with the same settings and number of devices, or remove the file")
