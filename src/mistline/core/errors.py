"""Errors a user can act on: each says where, what and what to do, in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class MistlineError(Exception):
    """A problem of the user's input, settings or machine; never a bug of ours.

    Args:
        where: the file, slide, column or key concerned.
        what: what is wrong there, with the offending value.
        remedy: what to do about it, as an imperative.
    """

    exit_code = 1

    def __init__(self, where: str | Path, what: str, remedy: str) -> None:
        self.where = str(where)
        self.what = what.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(f"{self.where}: {self.what}; {self.remedy}.")

    def __reduce__(self) -> tuple[type[MistlineError], tuple[str, str, str]]:
        # Exceptions cross process borders (DataLoader workers) as their constructor's arguments.
        return type(self), (self.where, self.what, self.remedy)


class InputError(MistlineError):
    """A bundle, table or image is missing, truncated or contradicts itself."""

    exit_code = 3


class ConfigError(MistlineError):
    """A key or value of the configuration cannot be used."""

    exit_code = 4


class OutputError(MistlineError):
    """A result cannot be written: no space, no permission, already being written."""

    exit_code = 5


class ResourceError(MistlineError):
    """The machine lacks what was asked for: memory, a device, a program."""

    exit_code = 6


_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_FAILING = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO}


def system_error(error: OSError, where: str | Path, *, writing: bool = False) -> MistlineError | None:
    """Return the sentence for what the operating system refused, None for what it did not.

    Args:
        error: as it was raised.
        where: the file or folder that was read or written; the error's own file is named where it lies elsewhere.
        writing: whether `where` was being written.
    """
    own = error.filename if isinstance(error.filename, str) else None
    if writing and own is not None and error.errno not in _FULL and not Path(own).is_relative_to(Path(where).parent):
        writing, where = False, own  # an input that was read while the output was made
    if error.errno in _FULL:
        return OutputError(where, "the disk is full", "free space or choose another --directory, then run again")
    if error.errno in _FORBIDDEN:
        if writing:
            return OutputError(where, "no permission to write here", "choose a folder you may write to (--directory)")
        return InputError(own or where, "no permission to read it", "get read access to it and to its folders")
    if error.errno in _FAILING:
        what = f"the disk or network file system failed ({os.strerror(error.errno)})"
        return (OutputError if writing else InputError)(where, what, "run again; if it stays, have the disk checked")
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(where, "the name is too long", "choose a shorter --directory or a shorter slide name")
    if error.errno == errno.EMFILE:
        return ResourceError(where, "too many open files", "raise the limit (ulimit -n)")
    if error.errno in _IN_THE_WAY and (writing or error.errno == errno.EISDIR):
        what = os.strerror(error.errno).lower()
        return (OutputError if writing else InputError)(own or where, what, "remove what is there, or choose another")
    return None
