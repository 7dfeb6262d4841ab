"""How the learning rate goes over a training."""

from __future__ import annotations

import math


def share(step: int, total: int, warmup: int, final: float) -> float:
    """Return the share of the full learning rate at one step.

    It rises linearly over the first `warmup` steps (Goyal et al. 2017, arXiv 1706.02677, section 2.2), the first of
    which already has 1 / warmup of it, and then falls to `final` along half a cosine (Loshchilov and Hutter 2017,
    arXiv 1608.03983, eq. 5, without restarts). A training shorter than its warm-up never reaches 1.

    Args:
        step: 0 .. total - 1.
        total: number of steps.
        warmup: number of those of the rise.
        final: share that step `total` would have.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
