"""What of a zip may be unpacked, and where each part of it lies: a zip of the web is not trusted.

Every name in the zip is looked at, and one that would lead out of a folder condemns all of it. Only files that are
asked for are unpacked, below names that were asked for.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from mistline.core.errors import InputError

MAX_MEMBERS = 100_000
MAX_RATIO = 200  # of a file's size to what it takes in the zip; images, tables and JSON of bundles stay below 30
_ANEW = "have the zip made anew, or download and unzip it by hand"
_MOST_BETWEEN = 30 + 2 * 2**16 + 24  # header, name, extra field and descriptor of a file in a zip, at most


@dataclass(frozen=True)
class Wanted:
    """Which files of a zip make a bundle.

    Args:
        marker: the file in the bundle's own folder, wherever in the zip that is.
        required: files it must have.
        is_read: whether a file, named as seen from that folder, is asked for.
    """

    marker: str
    required: tuple[str, ...]
    is_read: Callable[[str], bool]


@dataclass(frozen=True)
class Member:
    """A file that is asked for.

    Args:
        name: as seen from the bundle's folder.
        info: what the zip says of it.
        start: first byte of the zip that belongs to it.
        end: one past the last such byte.
    """

    name: str
    info: ZipInfo
    start: int
    end: int


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what Python finds wrong with a zip into one sentence.

    Raises:
        InputError: it is not a zip, or a broken one.
    """
    try:
        yield
    except (BadZipFile, RuntimeError, ValueError, EOFError, struct.error, zlib.error) as error:
        what = f"not a whole zip ({str(error).strip().rstrip('.') or type(error).__name__})"
        raise InputError(where, what, "correct the url, or run again if the server was at fault") from error


def choose(archive: ZipFile, wanted: Wanted, where: str) -> list[Member]:
    """Return the files of a zip that make the bundle, in the order in which they lie in it.

    Raises:
        InputError: the zip is unsafe, holds no bundle, or cannot be unpacked.
    """
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise InputError(where, f"the zip holds {len(infos)} files, a bundle at most {MAX_MEMBERS}", _ANEW)
    _require_safe_names(infos, where)
    members = _members(infos, archive.start_dir, _folder(infos, wanted.marker, where), wanted, where)
    names = {member.name for member in members}
    missing = [name for name in wanted.required if name not in names]
    if missing:
        raise InputError(where, f"the zip lacks {', '.join(missing)}", "correct the url: a bundle has these files")
    for member in members:
        _require_sound(member.info, where)
    return members


def unpack(archive: ZipFile, member: Member, folder: Path) -> None:
    """Unpack one file below a folder.

    Raises:
        InputError: its bytes are not those that the zip describes by length and CRC32.
    """
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member.info) as source, path.open("xb") as target:
        copy: BinaryIO = target
        shutil.copyfileobj(source, copy, 2**20)
        if target.tell() != member.info.file_size:
            raise BadZipFile(f"{member.name} ends early")


def _members(infos: list[ZipInfo], directory: int, folder: str, wanted: Wanted, where: str) -> list[Member]:
    """Find where the wanted files lie. Files that share bytes are how a small zip becomes petabytes."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    found = []
    for info, limit in zip(ordered, [*(info.header_offset for info in ordered[1:]), directory], strict=True):
        end = info.header_offset + 30 + info.compress_size
        if end > limit:
            raise InputError(where, f"{info.filename!r} shares bytes with the next file of the zip", _ANEW)
        name = info.filename.removeprefix(folder)
        if info.filename.startswith(folder) and not info.is_dir() and wanted.is_read(name):
            found.append(Member(name, info, info.header_offset, min(limit, end + _MOST_BETWEEN)))
    return found


def _require_safe_names(infos: list[ZipInfo], where: str) -> None:
    seen: set[str] = set()
    for info in infos:
        why = _unsafe(info) or ("it is there twice" if info.filename in seen else None)
        if why:
            raise InputError(where, f"the zip is unsafe: {info.orig_filename[:200]!r}: {why}", _ANEW)
        seen.add(info.filename)


def _unsafe(info: ZipInfo) -> str | None:
    """Say why a name must not be unpacked. Python has cut the name at a NUL: the original is looked at."""
    name = info.orig_filename
    mode = info.external_attr >> 16
    if "\0" in name or "\\" in name:
        return "a NUL or a backslash in its name"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "its path leads elsewhere"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "neither a file nor a folder"
    return None


def _folder(infos: list[ZipInfo], marker: str, where: str) -> str:
    """Return the folder of the zip that is the bundle, with a slash at its end; empty for the zip's own root."""
    found = [info.filename for info in infos if info.filename.rpartition("/")[2] == marker]
    if not found:
        raise InputError(where, f"no {marker} among the {len(infos)} files of the zip", "correct the url to a bundle's")
    depth = min(name.count("/") for name in found)
    highest = [name for name in found if name.count("/") == depth]
    if len(highest) > 1:
        raise InputError(where, f"the zip holds {len(highest)} bundles", "unzip it by hand, and name each folder")
    return highest[0].removesuffix(marker)


def _require_sound(info: ZipInfo, where: str) -> None:
    """Refuse a file that cannot be unpacked, or that grows beyond measure."""
    if info.flag_bits & 0x1:
        raise InputError(where, f"{info.filename!r} is encrypted", _ANEW)
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise InputError(where, f"{info.filename!r} is compressed by method {info.compress_type}", _ANEW)
    is_stored = info.compress_type == ZIP_STORED
    if info.file_size > max(2**20, MAX_RATIO * info.compress_size) or (
        is_stored and info.file_size != info.compress_size
    ):
        what = f"{info.filename!r} claims to grow from {info.compress_size} to {info.file_size} bytes"
        raise InputError(where, f"the zip is unsafe: {what}", _ANEW)
