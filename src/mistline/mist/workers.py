"""A `map` over threads, or over none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map` over threads, results in order.

    A pool of one would work in turns with its caller, and hand Python's lock over at every compressed crop: a quarter
    of the time of cutting. One thread is therefore the caller's own.

    Args:
        threads: how many work at a time.
    """
    if threads <= 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map
