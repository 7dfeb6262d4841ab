"""Where a model runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

logger = logging.getLogger("mistline.train")


def pick_device(devices: int) -> str:
    """Return cuda where a GPU is granted and there, else cpu; warns where a scheduler's grant cannot be used.

    Args:
        devices: GPUs granted to the job.
    """
    if devices == 0:
        return "cpu"
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if torch.cuda.is_available():
        logger.info("running on cuda (CUDA_VISIBLE_DEVICES=%s)", named or "all")
        return "cuda"
    if named:
        logger.warning("a GPU was given (CUDA_VISIBLE_DEVICES=%s), but torch cannot use it: running on the CPU", named)
    else:
        logger.info("this machine has no GPU: running on the CPU")
    return "cpu"


def gpu_count() -> int:
    """Return how many GPUs torch can use."""
    return torch.cuda.device_count()


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
