"""Vectors in a file between the passes of embedding: what is in memory does not grow with the slide."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.files import writing

_HELD = 1 << 24  # bytes of the files that are mapped at a time, about


class Rows:
    """Vectors in a file, of which little is in memory: written and read pages are given back now and then.

    Args:
        path: of the file; made anew.
        rows: how many.
        width: of each.

    Raises:
        OutputError: there is no room for it, or no permission.
    """

    def __init__(self, path: Path, rows: int, width: int) -> None:
        self._width, self._touched = width, 0
        with writing(path), path.open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, rows * width * 4)  # a full disk under a mapped file ends the process
            self._memory = mmap.mmap(file.fileno(), rows * width * 4)
        self._rows = np.frombuffer(self._memory, np.float32).reshape(rows, width)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return a copy of some rows."""
        found = np.array(self._rows[rows])
        self._give_back(len(found))
        return found

    def __setitem__(self, rows: Any, values: NDArray[np.float32]) -> None:
        """Write some rows."""
        self._rows[rows] = values
        self._give_back(len(values))

    def _give_back(self, rows: int) -> None:
        """Unmap pages once enough were touched; each row may lie on a page of its own. The file keeps them."""
        self._touched += rows * max(self._width * 4, mmap.PAGESIZE)
        if self._touched > _HELD and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
