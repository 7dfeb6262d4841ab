"""Copying shards to a node's own disk: once a node, checked byte by byte, never half.

A copy is known by the hashes of its files, as the manifest states them, so that every process, run and dataset
version that needs the same bytes shares it. Nothing is removed: node-local scratch is cleared by whoever lends it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mistline.core.errors import InputError, OutputError, ResourceError, system_error
from mistline.core.files import atomic_path
from mistline.core.hashing import hash_file, hash_json

logger = logging.getLogger("mistline.data")

_HOME = "mistline-shards"
_STAMP = "staged.json"
_CHUNK = 4 * 2**20
_REMEDY = "choose another --scratch, or leave it out to read the shards where they are"


@dataclass(frozen=True, slots=True)
class Stored:
    """A shard folder as the manifest describes it.

    Attributes:
        path: where it lies.
        files: name -> its sha256 and its number of bytes.
    """

    path: Path
    files: Mapping[str, Mapping[str, str | int]]

    @property
    def n_bytes(self) -> int:
        """Size of the folder."""
        return sum(int(of["bytes"]) for of in self.files.values())


def stage(folders: Sequence[Stored], scratch: Path) -> dict[Path, Path]:
    """Copy what is not there yet; a second process on the same node waits and then shares the copies.

    Args:
        folders: to copy.
        scratch: a folder on the node's own disk; made when it is not there.

    Returns:
        Path of each folder -> path of its copy.

    Raises:
        InputError: a shard is missing, or is not the one the manifest names.
        ResourceError: there is not enough space, said before anything is copied.
        OutputError: the scratch folder cannot be written.
    """
    home = Path(scratch) / _HOME
    copies = {folder.path: home / hash_json(folder.files) for folder in folders}
    with _alone(home):
        missing = {folder.path: folder for folder in folders if not _is_right(copies[folder.path], folder)}
        needed = sum(folder.n_bytes for folder in missing.values())
        free = shutil.disk_usage(home).free
        if needed > free:
            what = f"the shards to copy have {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            raise ResourceError(scratch, what, _REMEDY)
        for folder in missing.values():
            logger.info("copying %s (%.1f MB) to %s", folder.path, folder.n_bytes / 1e6, scratch)
            _copy(folder, copies[folder.path])
    return copies


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock of the scratch folder; the system frees it when the process dies."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        stream = (home / ".lock").open("w")
    except OSError as error:
        told = system_error(error, home, writing=True)
        raise OutputError(home, told.what if told else str(error), _REMEDY) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that copies shards to %s", home)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _is_right(copy: Path, folder: Stored) -> bool:
    """Tell whether a copy holds the very bytes: by its stamp where nothing was touched since, else by hashing."""
    files = {name: copy / name for name in folder.files}
    if not all(path.is_file() for path in files.values()):
        return False
    if _stamp(files) == _read_stamp(copy / _STAMP):
        return True
    for name, path in files.items():
        if path.stat().st_size != folder.files[name]["bytes"] or hash_file(path) != folder.files[name]["sha256"]:
            logger.warning("%s is damaged and is copied again", path)
            return False
    (copy / _STAMP).write_text(json.dumps(_stamp(files)), "utf-8")
    return True


def _stamp(files: Mapping[str, Path]) -> dict[str, list[int]]:
    """Return name -> size, time of the last change and inode: what any later writing changes."""
    status = {name: path.stat() for name, path in files.items()}
    return {name: [found.st_size, found.st_mtime_ns, found.st_ino] for name, found in status.items()}


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _copy(folder: Stored, final: Path) -> None:
    try:
        with atomic_path(final) as part:
            part.mkdir()
            for name in sorted(folder.files):
                _copy_file(folder.path / name, part / name, folder.files[name])
            stamp = _stamp({name: part / name for name in folder.files})
            (part / _STAMP).write_text(json.dumps(stamp), "utf-8")
    except OutputError as error:
        raise OutputError(error.where, error.what, _REMEDY) from error


def _copy_file(source: Path, target: Path, expected: Mapping[str, str | int]) -> None:
    digest, n_bytes = hashlib.sha256(), 0
    try:
        stream = source.open("rb")
    except FileNotFoundError:
        what = "the manifest names this shard, but it is not there"
        raise InputError(source, what, "run the stage that cuts it, then seal_dataset") from None
    with stream, target.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
            n_bytes += len(chunk)
    if n_bytes != expected["bytes"] or digest.hexdigest() != expected["sha256"]:
        what = f"{n_bytes} bytes that are not the {expected['bytes']} bytes that the manifest names by their sha256"
        raise InputError(source, what, "run the stage that cuts it, then seal_dataset")
    target.chmod(0o444)
