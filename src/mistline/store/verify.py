"""Are the files of a sealed dataset still those that were sealed? Every one is hashed, none is mapped or decoded.

A record's checksum tells a damaged record when it is read. It cannot tell damage to the pages around the records,
which LMDB trusts, to the point of ending the process; hashing whole files tells that too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.core.log import progress
from mistline.store.manifest import read_manifest


class Verified(NamedTuple):
    """What was found as sealed."""

    n_files: int
    n_bytes: int


def verify(path: Path) -> Verified:
    """Hash every file that a manifest names.

    Args:
        path: manifest.json, its folder or the folder above.

    Raises:
        InputError: the manifest was changed, or files are missing or differ; names how many and the first.
    """
    manifest = read_manifest(path)
    folder = manifest.path.parent
    named = sorted(set(_named(manifest.content)))
    bad: list[tuple[Path, str]] = []
    n_bytes = 0
    for relative, sha256 in progress(named, "verify"):
        file = folder / relative
        if not file.is_file():
            bad.append((file, "no such file"))
        elif hash_file(file) != sha256:
            bad.append((file, "its bytes are not those that were sealed"))
        else:
            n_bytes += file.stat().st_size
    if bad:
        where, what = bad[0]
        more = f" ({len(bad)} of {len(named)} files differ)" if len(bad) > 1 else ""
        remedy = "restore it from a copy, or remove it and run its stage and seal_dataset again"
        raise InputError(where.resolve(), what + more, remedy)
    return Verified(len(named), n_bytes)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (path, sha256) of every file below `value`; files of a shard folder are named within its path."""
    if isinstance(value, list):
        for item in value:
            yield from _named(item)
    elif isinstance(value, Mapping):
        path = str(value["path"]) if isinstance(value.get("path"), str) else None
        if path is not None and "sha256" in value:
            yield path, str(value["sha256"])
        for key, item in value.items():
            if path is not None and key == "files":
                yield from ((f"{path}/{name}", str(file["sha256"])) for name, file in item.items())
            else:
                yield from _named(item)
