"""Being told to stop: a scheduler sends SIGTERM at a time limit, and SIGUSR1 some time before it if asked to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def heard(tell: Callable[[int], None]) -> Iterator[None]:
    """Call `tell` with the number of every such signal, in place of ending; does nothing outside the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        tell(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
