"""The moving average of a network's weights: it draws the images, the weights themselves are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "average."


class Average(nn.Module):
    """An exponential moving average; its buffers belong to the state of a training.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the average of a short training is not made
    of the random weights that it began with.

    Args:
        net: whose trained parameters are averaged; it keeps them.
        decay: of many steps.
    """

    updates: Tensor

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._own = {_flat(name): value for name, value in net.named_parameters() if value.requires_grad}
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        for name, value in self._own.items():
            self.register_buffer(name, value.detach().clone())

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are now into the average."""
        n = int(self.updates)
        decay = min(self._decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._kept(), [value.detach() for value in self._own.values()], 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew with the weights as they are now."""
        for kept, value in zip(self._kept(), self._own.values(), strict=True):
            kept.copy_(value)
        self.updates.zero_()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network compute with the averages; nothing may be trained meanwhile."""
        values = list(self._own.values())
        trained = [value.data for value in values]
        for value, kept in zip(values, self._kept(), strict=True):
            value.data = kept
        try:
            yield
        finally:
            for value, own in zip(values, trained, strict=True):
                value.data = own

    def _kept(self) -> list[Tensor]:
        return [self.get_buffer(name) for name in self._own]


def _flat(name: str) -> str:
    """Return a parameter's name as that of a buffer, which may hold no dot."""
    return name.replace(".", "/")
