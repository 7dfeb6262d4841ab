"""Random generators that depend on names, not on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for (seed, names): the same on every machine and Python."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one purpose, such as `generator(seed, "make_splits", donor)`."""
    return np.random.default_rng(derive(seed, *names))
