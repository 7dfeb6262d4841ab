"""Errors a user can act on: each says where, what and what to do, in one sentence."""

from __future__ import annotations

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
