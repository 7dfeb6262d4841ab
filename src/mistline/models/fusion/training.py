"""The training loop: whole slides or batches, early stopping on validation cells, the best state restored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.seeds import derive, generator
from mistline.models.contract import Context
from mistline.models.fusion.cells import Cells
from mistline.models.fusion.network import Inputs, Network
from mistline.models.fusion.objectives import Objective
from mistline.models.fusion.params import Params


@dataclass(frozen=True, slots=True)
class Part:
    """Some cells of some slides.

    Args:
        cells: of the slides, all of them.
        chosen: [n] which are meant.
    """

    cells: Cells
    chosen: NDArray[np.int64]


def train(
    network: Network, parts: tuple[Part, Part], objective: Objective, params: Params, context: Context
) -> list[Mapping[str, Any]]:
    """Train a network in place, and return the rows of the course.

    Where there is no validation cell it is trained for all epochs.

    Args:
        network: on the context's device.
        parts: training and validation cells.
        objective: what is trained for.
        params: settings of the training.
        context: seed and device.
    """
    with torch.random.fork_rng(devices=[context.device] if context.device == "cuda" else []):
        torch.manual_seed(derive(context.seed, "fusion", "train"))
        return list(_epochs(network, parts, objective, params, context))


def _epochs(
    network: Network, parts: tuple[Part, Part], objective: Objective, params: Params, context: Context
) -> Iterator[Mapping[str, Any]]:
    train_part, val_part = parts
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max" if objective.larger_is_better else "min", 0.5, params.plateau
    )
    sign = 1.0 if objective.larger_is_better else -1.0
    best, best_epoch, best_state = -np.inf, 0, None
    for epoch in range(1, params.epochs + 1):
        rng = generator(context.seed, "fusion", "batches", epoch)
        loss = _pass(network, train_part, objective, optimizer, rng, context.device)
        row: dict[str, Any] = {"step": epoch, "loss": loss, "lr": float(optimizer.param_groups[0]["lr"])}
        if len(val_part.chosen):
            judged = _judge(network, val_part, objective, context.device)
            row |= judged
            plateau.step(judged[objective.stop_on])
            if sign * judged[objective.stop_on] > best:
                best, best_epoch, best_state = sign * judged[objective.stop_on], epoch, _copied(network)
        yield row
        if best_state is not None and epoch >= params.min_epochs and epoch - best_epoch >= params.patience:
            break
    if best_state is not None:
        network.load_state_dict(best_state)


def _pass(
    network: Network,
    part: Part,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    device: str,
) -> float:
    """Step over every training cell once; return the mean loss."""
    network.train()
    total = 0.0
    cells = part.cells
    batches = [(part.chosen, cells.whole(device))] if cells.is_whole else None
    for chosen, inputs in batches or cells.training_batches(part.chosen, device, rng):
        optimizer.zero_grad(set_to_none=True)
        rows = _rows(chosen, cells.is_whole, device)
        loss = objective.loss(network(inputs, rows), chosen, _target(inputs, rows))
        loss.backward()
        optimizer.step()
        total += loss.item() * len(chosen)
    return total / len(part.chosen)


def _judge(network: Network, part: Part, objective: Objective, device: str) -> Mapping[str, float]:
    network.eval()
    found = []
    with torch.inference_mode():
        for chosen, inputs in reading(part, device):
            rows = _rows(chosen, part.cells.is_whole, device)
            found.append(objective.judge(network(inputs, rows), chosen, _target(inputs, rows)))
    return objective.summary(torch.cat(found))


def reading(part: Part, device: str) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
    """Yield (cells, inputs) with all neighbours; in one piece where the slides are read whole."""
    if part.cells.is_whole:
        yield part.chosen, part.cells.whole(device)
    else:
        yield from part.cells.batches(part.chosen, device)


def outputs_of(network: Network, part: Part, device: str, what: str = "forward") -> Iterator[tuple[Any, Tensor]]:
    """Yield (cells, their outputs) of a trained network.

    Args:
        network: on the device.
        part: the cells.
        device: where it runs.
        what: the network's method.
    """
    network.eval()
    with torch.inference_mode():
        for chosen, inputs in reading(part, device):
            yield chosen, getattr(network, what)(inputs, _rows(chosen, part.cells.is_whole, device))


def _rows(chosen: NDArray[np.int64], is_whole: bool, device: str) -> Tensor | slice:
    """Return where the chosen cells are; they come first in a batch."""
    return torch.from_numpy(chosen).to(device) if is_whole else slice(len(chosen))


def _target(inputs: Inputs, rows: Tensor | slice) -> Tensor | None:
    return None if inputs.target is None else inputs.target[rows]


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
