"""A remote file that is read like one on disk: what is read and not here yet is fetched, and kept."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from functools import partial

from mistline.config.fetch import Fetch
from mistline.core.errors import InputError, ResourceError
from mistline.fetch.copy import BLOCK, Copy
from mistline.fetch.http import Answer, ChangedError, DroppedError, Version, ask, shown

MAX_READ = 2**24  # the directory of a zip is read at once, and is as long as the zip says
_LONGEST_PAUSE_S = 60.0
_TOLD_EVERY_S = 30.0

logger = logging.getLogger("mistline.fetch")


class Download(io.RawIOBase):
    """A file object over a remote file.

    Args:
        url: its address.
        copy: what is here of it.
        settings: how patiently to fetch.
        accept: called with what the server says of the file before any of it is kept; raises to refuse it.
    """

    def __init__(self, url: str, copy: Copy, settings: Fetch, accept: Callable[[Version], None]) -> None:
        super().__init__()
        self._url, self._copy, self._settings, self._accept = url, copy, settings, accept
        self._position = 0
        self._told_at = time.monotonic()
        version = copy.version
        if version is None or (not version.has_ranges and copy.gap(0, version.n_bytes)):
            self._attempt(self._begin)

    @property
    def version(self) -> Version:
        """The state of the file that is being fetched."""
        if self._copy.version is None:
            raise ChangedError
        return self._copy.version

    def ensure(self, start: int, end: int) -> None:
        """Fetch what is not here of bytes `start` to `end`.

        Raises:
            InputError: the server refuses or contradicts itself.
            ResourceError: too many attempts in a row brought nothing.
            OutputError: the disk is full.
            ChangedError: the remote file is no longer the one that was begun.
        """
        self._attempt(partial(self._fetch, start, end))

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any byte can be read."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte to be read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose the place of the next byte to be read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.version.n_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} of a file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read bytes, fetching those that are not here."""
        end = min(self._position + len(buffer), self.version.n_bytes)
        n = end - self._position
        if n <= 0:
            return 0
        if n > MAX_READ:
            raise InputError(shown(self._url), f"its directory claims {n} bytes", "have the zip made anew")
        self.ensure(self._position, end)
        buffer[:n] = self._copy.read(self._position, n)
        self._position += n
        return n

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do a step until it succeeds; what a dropped connection brought and can be kept, is kept."""
        failures = 0
        while True:
            n_here = self._copy.n_here
            try:
                return step()
            except DroppedError as dropped:
                version = self._copy.version
                if version is not None and version.has_ranges and self._copy.n_here > n_here:
                    failures = 0
                failures += 1
                if failures >= self._settings.attempts:
                    what = f"{failures} attempts in a row brought nothing that can be kept ({dropped.what})"
                    remedy = "run again later: it goes on from what is here"
                    raise ResourceError(shown(self._url), what, remedy) from dropped
                pause = min(_LONGEST_PAUSE_S, max(dropped.wait_s, self._settings.pause_s * 2 ** min(failures - 1, 10)))
                logger.warning("%s: %s; again in %g s.", shown(self._url), dropped.what, pause)
                time.sleep(pause)

    def _begin(self) -> None:
        """Learn what the file is, from its first block; a server that knows no ranges sends all of it at once."""
        answer = ask(self._url, 0, BLOCK, None, self._settings.timeout_s)
        with answer.stream:
            self._accept(answer.version)
            self._copy.begin(answer.version)
            self._take(answer)

    def _fetch(self, start: int, end: int) -> None:
        while gap := self._copy.gap(start, end):
            answer = ask(self._url, *gap, self.version, self._settings.timeout_s)
            with answer.stream:
                self._take(answer)

    def _take(self, answer: Answer) -> None:
        """Keep the blocks of an answer as they come."""
        position, n_bytes = answer.start, answer.version.n_bytes
        while position < answer.end:
            n = min(BLOCK, n_bytes - position)
            if position + n > answer.end:  # part of a block: asked for again
                break
            self._copy.put(position, answer.read(n, self._settings.timeout_s))
            position += n
            self._tell()
        if position == answer.start:
            raise DroppedError("the server gives less than 64 KB at once")

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at > _TOLD_EVERY_S:
            self._told_at = now
            here, whole = self._copy.n_here * BLOCK, self.version.n_bytes
            logger.info("%s: %.2f GB here, of a zip of %.2f GB.", shown(self._url), here / 1e9, whole / 1e9)
