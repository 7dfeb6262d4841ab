"""Training that keeps the weights of the lowest validation loss, of small models that are fitted within one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

_CLIP = 1.0  # norm of the gradient


class Settings(Protocol):
    """What such a training is told."""

    steps: int
    learning_rate: float
    weight_decay: float
    validate_every: int
    patience: int


def stopped(
    net: nn.Module, settings: Settings, loss: Callable[[], Tensor], validated: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Train, yield a row a validation, and leave the best weights in the network.

    Args:
        net: in training mode, on its device.
        settings: of AdamW, of validation and of when it ends.
        loss: draws a batch and returns its loss.
        validated: returns the validation loss.
    """
    optimiser = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    best, state, losses, waited = validated(), _copied(net), [], 0
    yield {"step": 0, "val_loss": best}
    for step in range(1, settings.steps + 1):
        found = loss()
        optimiser.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
        optimiser.step()
        losses.append(found.detach())
        if step % settings.validate_every and step < settings.steps:
            continue
        own = validated()
        yield {"step": step, "loss": float(torch.stack(losses).mean()), "val_loss": own}
        losses, waited = [], waited + 1
        if own < best:
            best, state, waited = own, _copied(net), 0
        if waited >= settings.patience:
            break
    net.load_state_dict(state)


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
