"""The environment of a published method, made by uv from a lock; what cannot be made is said, not raised."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mistline.core.errors import InputError
from mistline.core.files import read_json, writing
from mistline.core.hashing import hash_file

logger = logging.getLogger("mistline.tasks")
_LIST = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
_SHOWN = 300  # characters of a reason
_ADDRESS = re.compile(r"\w+://\S+")
_MARK = re.compile(r"^\W*(error|cause|hint)?\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Environment:
    """What came of making an environment.

    Args:
        method: whose it is.
        lock_sha256: hash of the lock it was made from.
        reason: why it is not there; None where it is.
        python: version of its Python.
        packages: name -> version of everything in it.
    """

    method: str
    lock_sha256: str
    reason: str | None = None
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)


def make(method: str, lock: Path, folder: Path) -> Environment:
    """Make the environment of a method in an empty folder.

    Args:
        method: name.
        lock: requirements with hashes and without the address of any index.
        folder: is emptied first.

    Returns:
        What came of it. A folder without an environment holds nothing.
    """
    if not lock.is_file():
        raise InputError(lock, "no such file", "make it with `make peers-lock`")
    digest = hash_file(lock)
    try:
        _empty(folder)
        uv = _uv()
        _call([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        python = str(interpreter(folder))
        _call([uv, "pip", "sync", "--quiet", "--python", python, str(lock)])
        packages = json.loads(_call([python, "-I", "-c", _LIST]))
    except _NotMadeError as error:
        _empty(folder)
        logger.warning("%s cannot be installed: %s", method, error)
        return Environment(method, digest, f"cannot be installed: {error}")
    version = ".".join(map(str, sys.version_info[:3]))
    return Environment(method, digest, None, version, dict(sorted(packages.items())))


def interpreter(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / "bin" / "python"


def read(status: Path) -> Environment:
    """Read what `make` returned, as the stage wrote it.

    Raises:
        InputError: the file is missing or is none of these.
    """
    try:
        return Environment(**read_json(status))
    except TypeError:
        raise InputError(status, "not the state of an environment", "run peer-environment again") from None


def last_line(text: str, *hidden: Path) -> str:
    """Return the last line that says something, short, with these folders' paths cut out."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = lines[-1] if lines else "no message"
    for folder in hidden:
        found = found.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
    return found.rstrip(".")[:_SHOWN]


class _NotMadeError(Exception):
    """A step failed; its message says why."""


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise _NotMadeError("uv is not there to install it with")
    return found


def _call(command: list[str]) -> str:
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"}
    around = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, capture_output=True, text=True, env=around, check=False)
    if done.returncode != 0:
        logger.warning("%s", done.stderr.strip())
        raise _NotMadeError(_told(done.stderr) or f"it ended with {done.returncode}")
    return done.stdout


def _told(text: str) -> str:
    """Return what failed and its last cause, without the addresses of any registry."""
    lines = [_ADDRESS.sub("the registry", line).strip() for line in text.splitlines()]
    told = [_MARK.sub("", line).rstrip(".") for line in lines if line]
    return ": ".join(dict.fromkeys([*told[:1], *told[-1:]]))[:_SHOWN]


def _empty(folder: Path) -> None:
    with writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
