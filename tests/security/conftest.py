"""A canary that only code from an untrusted file would make, and a child with little memory to read such files in."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.cases import REFUSED, Subject, Verdict, failures, try_cases

Reading = Callable[[Path, Callable[[Path], Any]], str]


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def evil(canary: Path) -> Evil:
    """An object whose unpickling makes the canary; that it does so is checked first."""
    found = Evil(canary)
    pickle.loads(pickle.dumps(found))
    assert canary.exists()
    canary.unlink()
    return found


@pytest.fixture
def sentence(tmp_path: Path) -> Callable[[Path, Callable[[Path], Any]], str]:
    """Read a folder in a child that may take 1.5 GB; return the sentence with which it was refused."""

    def read(folder: Path, reader: Callable[[Path], Any]) -> str:
        subject = Subject("untrusted", folder, ".", reader, lambda *_: None)
        (found,) = try_cases(subject, [-1], tmp_path / "cases")
        assert found.kind == REFUSED, failures(subject, [found], tmp_path) or f"it was taken: {found}"
        assert isinstance(found, Verdict)
        return found.told

    return read
