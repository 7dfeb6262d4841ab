"""The sidecar `<output>.meta.json`: what made a file, from what, with which settings and code."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mistline
from mistline.core.files import read_json, write_json
from mistline.core.hashing import hash_file

_PACKAGES = ("numpy", "scipy", "pyarrow", "anndata", "tifffile", "imagecodecs", "zarr", "lmdb", "zstandard", "torch")
_HASHED_BYTES = 64 * 2**20  # raw inputs above this are identified by size: a bundle can hold 100 GB


def sidecar(path: Path) -> Path:
    """Return where the provenance of `path` lies."""
    return path.with_name(path.name + ".meta.json")


def record(
    stage: str,
    *,
    outputs: Sequence[Path],
    inputs: Mapping[str, Path],
    params: Mapping[str, Any],
    code: str,
    seed: int | None = None,
) -> None:
    """Write the sidecar of every output.

    Args:
        stage: the rule's name, such as `cut_crops`.
        outputs: files or folders just written.
        inputs: option name -> file or folder read.
        params: the settings the stage was given.
        code: digest of the stage's code (`mistline.workflow.digest.code_digest`).
        seed: the run's seed, where the stage draws random numbers.
    """
    described = {name: _describe(path) for name, path in inputs.items()}
    for output in outputs:
        write_json(
            sidecar(output),
            {
                "stage": stage,
                "output": output.name,
                "sha256": hash_file(output),
                "inputs": described,
                "params": dict(params),
                "code": code,
                "seed": seed,
                "versions": versions(),
            },
        )


def _describe(path: Path) -> dict[str, Any]:
    """Identify an input by the hash its own sidecar holds, else by its bytes, else (raw, large) by its size."""
    if sidecar(path).is_file():
        return {"path": str(path), "sha256": read_json(sidecar(path))["sha256"]}
    if path.is_dir():
        return {"path": str(path), "files": sum(item.is_file() for item in path.rglob("*"))}
    size = path.stat().st_size
    return {"path": str(path), "size": size} | ({"sha256": hash_file(path)} if size <= _HASHED_BYTES else {})


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that results depend on."""
    found = {"mistline": mistline.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
