from __future__ import annotations

from pathlib import Path

import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.store.manifest import write_manifest
from mistline.store.verify import verify


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A manifest that names files in every way a real one does."""
    files = (
        "dataset/splits.json",
        "slides/a/cells.parquet",
        "slides/a/shards/cell/0000.lmdb",
        "slides/a/he/image.json",
    )
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes([number]) * 100)
    sha256 = [hash_file(tmp_path / name) for name in files]
    shards = {"path": "../slides/a/shards/cell", "files": {"0000.lmdb": {"sha256": sha256[2], "bytes": 100}}}
    slide = {
        "slide": "a",
        "files": {"cells": {"path": "../slides/a/cells.parquet", "sha256": sha256[1]}},
        "scales": {"cell": {"records": 1, "shards": shards}},
        "he": {"image_summary": {"path": "../slides/a/he/image.json", "sha256": sha256[3]}},
    }
    content = {"slides": [slide], "splits": {"path": "splits.json", "sha256": sha256[0], "scheme": "donor"}}
    write_manifest(tmp_path / "dataset/manifest.json", content)
    return tmp_path


def test_every_named_file_is_hashed(dataset: Path) -> None:
    assert verify(dataset) == (4, 400)


@pytest.mark.parametrize(
    "name",
    ["dataset/splits.json", "slides/a/cells.parquet", "slides/a/shards/cell/0000.lmdb", "slides/a/he/image.json"],
)
def test_a_file_that_differs_is_named(dataset: Path, name: str) -> None:
    path = dataset / name
    path.write_bytes(b"\x80" + path.read_bytes()[1:])
    with pytest.raises(InputError, match=f"{name}: its bytes are not those that were sealed; restore it from a copy"):
        verify(dataset)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        verify(dataset)


def test_how_many_differ_is_told(dataset: Path) -> None:
    for path in (dataset / "slides").rglob("*.*"):
        path.write_text("x")
    with pytest.raises(InputError, match="3 of 4 files differ"):
        verify(dataset)
