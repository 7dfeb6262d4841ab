"""Where a model runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

logger = logging.getLogger("mistline.train")


def pick_device(devices: int) -> str:
    """Return cuda where a GPU is granted and there, else cpu; says so where one was granted in vain.

    Args:
        devices: GPUs granted to the job.
    """
    if devices > 0 and torch.cuda.is_available():
        return "cuda"
    if devices > 0:
        logger.info("this machine has no GPU: running on the CPU")
    return "cpu"


@contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Hold torch and the linear algebra below numpy to so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)
