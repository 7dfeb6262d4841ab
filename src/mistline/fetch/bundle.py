"""Fetching one bundle: room first, then the bytes, then their checks, then a folder that appears whole.

The zip's bytes are kept in a hidden folder beside the bundle until it is there. A killed run leaves them, and the next
one goes on from them.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from mistline.config.fetch import Fetch, refused
from mistline.core.errors import InputError, MistlineError, OutputError
from mistline.core.files import atomic_path, read_json, remove, write_json
from mistline.fetch.archive import Member, Wanted, choose, reading, unpack
from mistline.fetch.copy import Copy
from mistline.fetch.download import Download
from mistline.fetch.http import ChangedError, Version, shown

ORIGIN = "mistline-fetch.json"  # lies in a fetched bundle: where it is from, and what was checked
_READ_AT_ONCE = 2**20

logger = logging.getLogger("mistline.fetch")


@dataclass(frozen=True)
class Source:
    """Where a bundle is had, and what is known of its zip.

    Args:
        url: address of the zip.
        sha256: of the zip, hexadecimal.
        md5: the same.
        n_bytes: size of the zip.
    """

    url: str
    sha256: str | None = None
    md5: str | None = None
    n_bytes: int | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """What is known: name of the algorithm -> lower-case digest."""
        known = {"sha256": self.sha256, "md5": self.md5}
        return {name: digest.lower() for name, digest in known.items() if digest}


def fetch(source: Source, bundle: Path, wanted: Wanted, settings: Fetch) -> dict[str, Any]:
    """Fetch a bundle, unless something lies in its place: that is used as it is.

    Args:
        source: where it is had.
        bundle: its folder, absent or empty.
        wanted: which files of the zip make a bundle.
        settings: how patiently to fetch.

    Returns:
        Where the bundle is from and how it was checked; of one that was not fetched by this, `found`.

    Raises:
        InputError: the server has no such file, or it is not the bundle it should be.
        ResourceError: the server does not answer.
        OutputError: no room or no permission.
    """
    bundle = Path(bundle).resolve()
    if _is_there(bundle):
        return _origin(bundle)
    why = refused(source.url)
    if why:
        remedy = "give an http or https address; a bundle on disk is named by its folder alone"
        raise InputError(shown(source.url), why, remedy)
    work = bundle.with_name(f".{bundle.name}.fetch")
    with Copy(work, shown(source.url)) as copy:
        if not _is_there(bundle):  # another process may have made it since
            _of_one_state(source, bundle, wanted, settings, copy)
    remove(work)
    return _origin(bundle)


def _is_there(bundle: Path) -> bool:
    return bundle.exists() and not (bundle.is_dir() and not any(bundle.iterdir()))


def _origin(bundle: Path) -> dict[str, Any]:
    path = bundle / ORIGIN
    told = read_json(path) if path.is_file() else None
    return told if isinstance(told, dict) else {"found": True}


def _of_one_state(source: Source, bundle: Path, wanted: Wanted, settings: Fetch, copy: Copy) -> None:
    """Fetch from one state of the remote file; when it changes meanwhile, begin again once."""
    try:
        return _make(source, bundle, wanted, settings, copy)
    except ChangedError:
        logger.warning("%s: another file than the one that was begun; beginning again.", shown(source.url))
        copy.forget_all()
    try:
        return _make(source, bundle, wanted, settings, copy)
    except ChangedError as error:
        what = "it changes while it is fetched"
        raise InputError(shown(source.url), what, "run again when it has come to rest") from error


def _make(source: Source, bundle: Path, wanted: Wanted, settings: Fetch, copy: Copy) -> None:
    where = shown(source.url)

    def accept(version: Version) -> None:
        if source.n_bytes not in (None, version.n_bytes):
            what = f"it has {version.n_bytes} bytes, and {source.n_bytes} were announced"
            raise InputError(where, what, "correct `bytes` or the url")
        if not version.has_ranges:
            _require_room(bundle, version.n_bytes)

    download = Download(source.url, copy, settings, accept)
    accept(download.version)
    try:
        with reading(where):
            archive = ZipFile(download)
            members = choose(archive, wanted, where)
    except MistlineError as error:
        if isinstance(error, InputError):  # nothing of this file is worth keeping
            copy.forget_all()
        raise
    _bring(source, download, members, copy, bundle)
    _check(source, copy, where)
    with atomic_path(bundle) as part:
        part.mkdir()
        _unpack(archive, members, part, copy, where)
        write_json(part / ORIGIN, _describe(source, download.version, members))
        if _is_there(bundle):
            raise OutputError(bundle, "it appeared while it was fetched", "run again to use what is there now")


def _require_room(bundle: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(bundle.parent).free
    if free < n_bytes:
        what = f"fetching it takes {n_bytes / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
        raise OutputError(bundle, what, "free space, or choose a folder on another disk")


def _bring(source: Source, download: Download, members: list[Member], copy: Copy, bundle: Path) -> None:
    """See that there is room for zip and bundle, then fetch: all of it where a checksum is known, else what is read."""
    n_bytes = download.version.n_bytes
    ranges = [(0, n_bytes)] if source.checksums else [(member.start, member.end) for member in members]
    size = sum(member.info.file_size for member in members)
    _require_room(bundle, size + sum(copy.missing(*given) for given in ranges))
    logger.info("%s: %d files, %.3g GB, out of a zip of %.3g GB.", bundle, len(members), size / 1e9, n_bytes / 1e9)
    for given in ranges:
        download.ensure(*given)


def _check(source: Source, copy: Copy, where: str) -> None:
    """Compare the whole zip with the checksums that are known."""
    for name, known in source.checksums.items():
        digest = hashlib.new(name)
        position = 0
        while data := copy.read(position, _READ_AT_ONCE):
            digest.update(data)
            position += len(data)
        if digest.hexdigest() != known:
            copy.forget_all()
            what = f"its {name} is {digest.hexdigest()}, and {known} was announced"
            raise InputError(where, what, f"correct `{name}` or the url; run again if the server was at fault")


def _unpack(archive: ZipFile, members: list[Member], folder: Path, copy: Copy, where: str) -> None:
    for member in members:
        try:
            with reading(where):
                unpack(archive, member, folder)
        except InputError:
            copy.forget(member.start, member.end)  # so that the next run fetches it anew
            raise


def _describe(source: Source, version: Version, members: list[Member]) -> dict[str, Any]:
    return {
        "url": shown(source.url),
        "n_bytes": version.n_bytes,
        "etag": version.etag,
        "modified": version.modified,
        "checksums": source.checksums,
        "files": {
            member.name: {"n_bytes": member.info.file_size, "crc32": f"{member.info.CRC:08x}"} for member in members
        },
    }
