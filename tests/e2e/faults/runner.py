"""Commands as a user types them: their exit code, their sentence, and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.hashing import hash_file
from tests.conftest import REPOSITORY, Snakemake
from tests.e2e.conftest import options
from tests.e2e.faults.server import CANNOT

Tree = dict[str, str]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code; a signal's number, negative, when it was killed.
        seconds: from the fork to the end.
        n_changes: how often it changed the file system by way of Python; 0 when it was killed.
        output: what a user saw.
    """

    code: int
    seconds: float
    n_changes: int
    output: str

    @property
    def errors(self) -> list[str]:
        """The lines that tell of an error."""
        return [line.removeprefix("error: ") for line in self.output.splitlines() if line.startswith("error: ")]

    @property
    def sentence(self) -> str:
        """The one sentence; anything more on stderr than log lines before it is a failure."""
        assert "Traceback" not in self.output, self.output
        assert "Exception ignored" not in self.output, self.output
        assert len(self.errors) == 1, self.output
        assert self.output.rstrip().endswith(self.errors[0]), self.output
        return self.errors[0]


class Runner:
    """The server of `server.py`, started once; the stages that import most have one of their own."""

    OWN = ("export-viewer",)

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._number = 0
        self._servers: dict[str, subprocess.Popen[str]] = {}
        # A copy: outputs carry a digest of the code, which an edit between two commands would change.
        shutil.copytree(REPOSITORY / "src", scratch / "src", ignore=shutil.ignore_patterns("__pycache__"))

    def close(self) -> None:
        for server in self._servers.values():
            server.stdin.close()
            assert server.wait(60) == 0

    def _server(self, command: str) -> subprocess.Popen[str]:
        name = command if command in self.OWN else "others"
        if name not in self._servers:
            environment = os.environ | {"PYTHONPATH": str(self._scratch / "src"), "OMP_NUM_THREADS": "1"}
            environment |= {"HDF5_USE_FILE_LOCKING": "FALSE"}  # as the rules say
            environment |= {"UV_OFFLINE": "1", "UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(self._scratch / "uv")}
            words = [sys.executable, str(Path(__file__).with_name("server.py"))]
            self._servers[name] = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        return self._servers[name]

    def __call__(self, *words: str | Path, cwd: Path, **confined: Any) -> Ended:
        """Run one command; see `together` for the rest."""
        return self.together([words], cwd=cwd, **confined)[0]

    def together(self, commands: Sequence[Sequence[str | Path]], *, cwd: Path, **confined: Any) -> list[Ended]:
        """Run commands at once.

        Args:
            commands: words after `mistline` of each.
            cwd: where.
            confined: kill_after_s, kill_at_change, without_privileges, tmpfs=(folder, bytes), read_only=folder,
                refuse=(system call, error number).
        """
        outputs = [self._scratch / f"{self._number + number}.txt" for number in range(len(commands))]
        self._number += len(commands)
        for output in outputs:
            output.touch()  # a command may be killed before it has opened it
        order = [
            {"words": [str(word) for word in words], "cwd": str(cwd), "output": str(output), **confined}
            for words, output in zip(commands, outputs, strict=True)
        ]
        server = self._server(str(commands[0][0]))
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        answers = json.loads(server.stdout.readline())
        ended = [
            Ended(**answer, output=output.read_text(errors="replace"))
            for answer, output in zip(answers, outputs, strict=True)
        ]
        refused = [item.output.strip().splitlines()[-1] for item in ended if item.code == CANNOT]
        if refused:
            import pytest

            pytest.skip(f"this machine does not allow it: {refused[0]}")
        return ended


@dataclass(frozen=True)
class Job:
    """One job of the line, as Snakemake would start it.

    Args:
        rule: its rule.
        words: after `mistline`.
        outputs: files and folders it makes, below the cohort's folder.
        inputs: files and folders it reads that other jobs make.
    """

    rule: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]


def planned(folder: Path, snakemake: Snakemake, *targets: str) -> list[Job]:
    """Return the jobs of a dry run, in their order."""
    run = snakemake("--dry-run", "--printshellcmds", *options(folder), *targets)
    assert run.returncode == 0, run.stdout + run.stderr
    jobs = []
    for text in re.split(r"\n(?=(?:local)?rule \w+:\n)", run.stdout + run.stderr):
        command = re.search(r"^(?:Shell command:)?\s*python -m mistline (.*?) &> ", text, re.MULTILINE)
        if command is None:
            continue
        rule = re.match(r"(?:local)?rule (\w+):", text)
        named = {kind: re.search(rf"^    {kind}: (.*)$", text, re.MULTILINE) for kind in ("input", "output")}
        lists = {kind: tuple(found[1].split(", ")) if found else () for kind, found in named.items()}
        jobs.append(Job(rule[1], tuple(shlex.split(command[1])), lists["output"], lists["input"]))
    return jobs


_HASHES: dict[tuple[int, ...], str] = {}


def _hash(path: str) -> str:
    """Return a file's hash; not read again while it is the same file and the kernel saw no change of it."""
    of = os.stat(path)
    state = (of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns)
    if state not in _HASHES:
        _HASHES[state] = hash_file(Path(path))
    return _HASHES[state]


def tree(folder: Path, *, without: Sequence[str] = ()) -> Tree:
    """Return every file and folder below with its content's hash; hidden ones too."""
    found = {}
    start = len(str(folder)) + 1
    for place, folders, files in os.walk(folder):  # several times as fast as pathlib
        for names, is_folder in ((folders, True), (files, False)):
            for inner in names:
                path = os.path.join(place, inner)
                name = path[start:]
                if not any(name == other or name.startswith(f"{other}/") for other in without):
                    found[name] = "folder" if is_folder else _hash(path)
    return found


def litter(folder: Path) -> list[str]:
    """Return what unfinished writers left."""
    return [path.name for path in folder.rglob(".*") if path.name.endswith((".part", ".tmp", ".partial"))]
