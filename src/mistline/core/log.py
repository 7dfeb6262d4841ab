"""One log format on stderr, and progress bars that only a person sees."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def configure(level: int = logging.INFO) -> None:
    """Send the package's messages to stderr as `time level room: message`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("mistline")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def progress(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield `items`, with a bar on stderr when that is a terminal and silence when it is a log file."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=label, console=Console(stderr=True), transient=True)
