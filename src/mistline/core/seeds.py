"""Random generators that depend on names, not on the order of calls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for (seed, names): the same on every machine and Python."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one purpose, such as `generator(seed, "make_splits", donor)`."""
    return np.random.default_rng(derive(seed, *names))


def ranked(ids: Sequence[str], seed: int, *names: str | int) -> NDArray[np.int64]:
    """Return the places of ids in the order of a draw: its first k are a random sample of k.

    An id's rank comes from its own hash. So the order of the ids changes nothing, the sample of k lies in that of
    more, and leaving some ids out leaves the others in their order.

    Args:
        ids: [n], different from each other.
        seed: of the draw.
        names: of its purpose.
    """
    purpose = hashlib.blake2b("\x1f".join([str(seed), *map(str, names), ""]).encode(), digest_size=16)
    drawn = bytearray()
    for name in ids:
        own = purpose.copy()
        own.update(name.encode())
        drawn += own.digest()
    high, low = np.frombuffer(bytes(drawn), dtype=">u8").reshape(-1, 2).astype(np.uint64).T
    return np.lexsort((low, high)).astype(np.int64)
