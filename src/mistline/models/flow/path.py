"""Going along a flow: the midpoint rule of second order."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

TIMES = 1000  # the U-Net's embedding of time is made for 0 .. 1000, the path runs from 0 to 1

Velocity = Callable[[Tensor, float], Tensor]  # latents [B, c, h, w] and time of 0 .. TIMES -> their velocity


def midpoint(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Return where the flow carries latents from time 0 to time 1.

    Args:
        velocity: per unit of the path's own time; asked twice a step.
        x: [B, c, h, w] at time 0.
        steps: equally long ones; the published step is 0.01, which is 100 of them.
    """
    length = 1 / steps
    for number in range(steps):
        time = number * length
        half = x + length / 2 * velocity(x, time * TIMES)
        x = x + length * velocity(half, (time + length / 2) * TIMES)
    return x
