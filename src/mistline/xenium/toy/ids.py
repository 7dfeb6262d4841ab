"""Cell ids as 10x writes them: integers in 1.0, later eight letters a-p and the dataset's number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import derive

SUFFIX = 1  # the dataset's number, the part after the dash
_SHIFTS = np.arange(28, -1, -4, dtype=np.uint32)
_ALPHABET = np.frombuffer(b"abcdefghijklmnop", dtype="S1")


def prefixes(rows: NDArray[np.int64], n_cells: int, seed: int) -> NDArray[np.uint32]:
    """Return 32-bit prefixes that look random, rise with the row and never repeat.

    Args:
        rows: [n] row numbers of cells, 0 to n_cells - 1.
        n_cells: cells of the slide.
        seed: of the slide.
    """
    stride = 2**32 // n_cells
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(derive(seed, "ids") | 1)
    mixed ^= mixed >> np.uint64(29)
    return (rows.astype(np.uint64) * np.uint64(stride) + mixed % np.uint64(stride)).astype(np.uint32)


def encode(prefix: NDArray[np.uint32], suffix: int = SUFFIX) -> NDArray[np.str_]:
    """Spell prefixes as ids: each hexadecimal digit 0-f becomes a letter a-p, then a dash and the suffix."""
    digits = (prefix.astype(np.uint32)[:, None] >> _SHIFTS) & np.uint32(15)
    letters = np.ascontiguousarray(_ALPHABET[digits]).view("S8")[:, 0]
    return np.char.add(letters.astype(str), f"-{suffix}")
