"""Unfinished outputs: one hidden folder a writer, known by its process, so that leftovers can be told and cleared.

A writer makes `.<name>.<machine>-<pid>-<start>-<n>.part/` beside the final place and works in it. Two processes that
make one output never meet in one folder, without any lock. What a killed process left is cleared by the next one
that makes the same output: its owner is no longer running here, or ran on another machine.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

_NUMBER = itertools.count()
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
_ATTEMPTS = 20


class Part:
    """The folder in which one output is made.

    Args:
        final: where the output goes; its folder must be there.
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        self._folder = final.with_name(f".{final.name}.{_owner()}.part")
        self._folder.mkdir()
        # Held open, so that no other folder can be taken for this one: a closed one's number is given away again.
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        self._n_aside = 0
        self.path = self._folder / final.name
        self.clear_leftovers()

    def is_ours(self) -> bool:
        """Tell whether the folder is still the one that was made: a process of another machine may have cleared it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self._folder))
        except FileNotFoundError:
            return False

    def place(self) -> None:
        """Rename the finished output to its final place, in exchange for what is there."""
        for attempt in range(_ATTEMPTS):
            if self.path.is_dir() or (self._final.is_dir() and not self._final.is_symlink()):
                self._put_aside(self._final)  # rename cannot replace a folder that holds something
            try:
                self.path.replace(self._final)
            except OSError as error:  # another process placed its folder just now
                if error.errno not in _IN_THE_WAY or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def close(self) -> None:
        """Remove the folder and what is left in it; leave alone what is no longer ours."""
        if self._descriptor < 0:
            return
        if self.is_ours():
            remove(self._folder)
        os.close(self._descriptor)
        self._descriptor = -1

    def clear_leftovers(self) -> None:
        """Remove what other, no longer running processes left of the same output."""
        pattern = re.compile(rf"\.{re.escape(self._final.name)}(?:\.([0-9a-f]+-\d+-\d+)-\d+)?\.part")
        for path in self._final.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match and path != self._folder and not (match[1] and _is_running(match[1])):
                # Moved before it is removed: an owner that does run finds nothing, rather than half of its files.
                remove(self._put_aside(path))

    def _put_aside(self, path: Path) -> Path:
        self._n_aside += 1
        aside = self._folder / f".{self._n_aside}"
        with suppress(FileNotFoundError):  # gone by itself
            path.rename(aside)
        return aside


def remove(path: Path) -> None:
    """Remove a file or a whole folder; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _owner() -> str:
    return f"{_process(os.getpid())}-{next(_NUMBER)}"


def _process(pid: int) -> str:
    return f"{_machine()}-{pid}-{_started(pid) or 0}"


def _machine() -> str:
    """Name this machine, since it was started, and the namespace its process numbers are of."""
    known = os.uname().nodename
    with suppress(OSError):
        known += Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def _is_running(process: str) -> bool:
    machine, pid, started = process.split("-")
    return machine == _machine() and _started(int(pid)) == int(started)


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks; 0 where that cannot be known, None when it does not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's, but there
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return None if fields[0] in "ZX" else int(fields[19])
