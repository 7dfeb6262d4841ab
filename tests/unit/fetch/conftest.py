"""A bundle of noise, its zip, and a server for it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mistline.config.fetch import Fetch
from mistline.fetch.archive import Wanted
from mistline.fetch.copy import BLOCK
from tests.unit.fetch.server import Served, serving

WANTED = Wanted("marker", ("marker", "table"), lambda name: name in {"marker", "table", "image", "focus/ch0"})
SETTINGS = Fetch(enabled=True, timeout_s=20, attempts=3, pause_s=0)


def files() -> dict[str, bytes]:
    """Name -> bytes; what is wanted is less than half of it."""
    rng = np.random.default_rng(0)
    sizes = {"image": 5 * BLOCK, "transcripts": 20 * BLOCK, "focus/ch0": 2 * BLOCK + 100, "cells.zarr.zip": 100}
    noise = {name: rng.bytes(size) for name, size in sizes.items()}
    return {"marker": b"{}", "table": b"1 2 3\n" * 9000, **noise, "analysis/a.csv": b"x" * 5000}


def as_zip(content: dict[str, bytes] | None = None, prefix: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (content or files()).items():
            archive.writestr(prefix + name, data)
    return stream.getvalue()


@cache
def usual_zip() -> bytes:
    return as_zip()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served(usual_zip())) as served:
        yield served


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "a place" / "bündle"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
