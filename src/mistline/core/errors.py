"""Errors a user can act on: each says where, what and what to do, in one sentence."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a terminal obeys instead of showing: control characters, breaks, changes of direction, halves of characters.
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 1500
_SMALL_FILE = 64 * 2**20


class MistlineError(Exception):
    """A problem of the user's input, settings or machine; never a bug of ours.

    Args:
        where: the file, slide, column or key concerned.
        what: what is wrong there, with the offending value.
        remedy: what to do about it, as an imperative.
    """

    exit_code = 1

    def __init__(self, where: str | Path, what: str, remedy: str) -> None:
        self.where = shown(where)
        self.what = shown(what).rstrip(".")
        self.remedy = shown(remedy).rstrip(".")
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


def shown(text: object) -> str:
    """Return a text on one line and of a bearable length: names and values come from files that others wrote."""
    found = _UNSHOWN.sub(lambda match: repr(match[0])[1:-1], str(text))
    return found if len(found) <= _LONGEST else f"{found[: _LONGEST // 2]} … {found[-_LONGEST // 2 :]}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, and its kind where that says more."""
    said = str(error).strip().splitlines()
    is_told = isinstance(error, OSError | ValueError | RuntimeError)
    return ": ".join([*([] if is_told and said else [type(error).__name__]), *(line.rstrip(".") for line in said[:1])])


@contextmanager
def parsing(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises at the content of a file into one sentence.

    Nobody lists what parsers raise at damaged files. So only calls that look at nothing but the file belong here: a
    bug of ours would be taken for damage.

    Args:
        path: the file.
        what: what it is then; the library's reason follows in brackets.
        remedy: what to do about it.

    Raises:
        InputError: the content could not be read, or asks for more memory than there is, though the file is small.
        FileNotFoundError: there is no file.
        MemoryError: of a large file.
    """
    try:
        yield
    except (MistlineError, FileNotFoundError):
        raise
    except MemoryError as error:
        if path.stat().st_size > _SMALL_FILE:
            raise
        raise InputError(path, f"{what} (it asks for more memory than there is)", remedy) from error
    except Exception as error:
        told = system_error(error, path) if isinstance(error, OSError) else None
        raise told or InputError(path, f"{what} ({first_line(error)})", remedy) from error


def _is_of(path: Path, output: Path) -> bool:
    """Tell whether a path lies beside an output, or is a folder that it lies in."""
    return path.is_relative_to(output.parent) or output.is_relative_to(path)


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
    if writing and own is not None and error.errno not in _FULL and not _is_of(Path(own), Path(where)):
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
