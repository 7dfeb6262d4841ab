"""Images of different sides in one tensor: what a batch holds at native size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ragged:
    """`B` square images of `C` channels, one after the other.

    Attributes:
        pixels: uint8 [P], of each image [C, S_i, S_i] in row-major order.
        side: int64 [B], S_i in pixels; always in main memory.
        n_channels: C.
    """

    pixels: Tensor
    side: Tensor
    n_channels: int

    @property
    def offset(self) -> Tensor:
        """int64 [B + 1], where each image starts in `pixels`; in main memory."""
        offset = torch.zeros(len(self.side) + 1, dtype=torch.int64)
        torch.cumsum(self.n_channels * self.side**2, 0, out=offset[1:])
        return offset

    def __len__(self) -> int:
        return len(self.side)

    def __getitem__(self, i: int) -> Tensor:
        """Return one image [C, S_i, S_i], a view."""
        i = range(len(self))[i]
        return self._view(int(self.offset[i]), int(self.side[i]))

    def __iter__(self) -> Iterator[Tensor]:
        for first, side in zip(self.offset.tolist(), self.side.tolist(), strict=False):
            yield self._view(first, side)

    def each(self, change: Callable[[Tensor], Tensor]) -> Ragged:
        """Return the images with `change`, such as a move to a device, applied to the pixels."""
        return replace(self, pixels=change(self.pixels))

    def _view(self, first: int, side: int) -> Tensor:
        shape = (self.n_channels, side, side)
        return self.pixels[first : first + self.n_channels * side**2].view(shape)
