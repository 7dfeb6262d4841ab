"""Zips that must not be unpacked."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable

import pytest

from mistline.core.errors import InputError
from mistline.fetch import archive as room
from mistline.fetch.archive import choose, reading, unpack
from tests.unit.fetch.conftest import WANTED, contents

GOOD = {"marker": b"{}", "table": b"1 2 3\n" * 9, "image": b"\x07" * 3000, "transcripts": b"t"}


def zipped(*others: zipfile.ZipInfo | str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings(action="ignore"):
        for name in [*GOOD, *others]:
            archive.writestr(name, GOOD.get(name, b"?") if isinstance(name, str) else b"?")
    return stream.getvalue()


def renamed(name: bytes) -> bytes:
    """Return a zip with a name that Python would not write."""
    return zipped("x" * len(name)).replace(b"x" * len(name), name)


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return info


def patched(change: Callable[[bytearray, int], None], name: bytes = b"image") -> bytes:
    """Change what the directory says of one file; its entry begins at the place that `change` is given."""
    data = bytearray(zipped())
    change(data, data.rindex(name) - 46)
    return bytes(data)


def field(offset: int, layout: str, value: int) -> bytes:
    return patched(lambda data, at: struct.pack_into(layout, data, at + offset, value))


def take(data: bytes, folder) -> None:
    with reading("zip"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in choose(archive, WANTED, "zip"):
            unpack(archive, member, folder)


def test_what_is_asked_for_and_nothing_else(tmp_path):
    take(zipped("evil", "analysis/deep/a"), tmp_path)
    assert contents(tmp_path) == {name: data for name, data in GOOD.items() if name != "transcripts"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (renamed(b"../evil"), "unsafe: '../evil': its path leads elsewhere"),
        (renamed(b"a/../../b"), "its path leads elsewhere"),
        (renamed(b"a//b"), "its path leads elsewhere"),
        (renamed(b"/etc/evil"), "an absolute path"),
        (renamed(b"C:/evil"), "an absolute path"),
        (renamed(b"..\\evil"), "a NUL or a backslash"),
        (renamed(b"table\0.txt"), "a NUL or a backslash"),
        (zipped(linked()), "'link': neither a file nor a folder"),
        (zipped("transcripts"), "'transcripts': it is there twice"),
        (zipped("a/marker", "b/marker").replace(b"marker", b"_arker", 1), "not a whole zip"),
        (field(8, "<H", 1), "'image' is encrypted"),
        (zipped(method=zipfile.ZIP_LZMA), "is compressed by method 14"),
        (field(24, "<I", 2**30), r"'image' claims to grow from \d+ to 1073741824 bytes"),
        (field(24, "<I", 2999), "not a whole zip .*CRC"),  # more bytes than it says
        (field(24, "<I", 3001), "not a whole zip"),  # fewer
        (field(16, "<I", 5), "not a whole zip .*CRC"),
        (field(20, "<I", 5000), "'image' shares bytes with the next file"),
        (field(42, "<I", 0), "shares bytes with the next file"),  # two names for one stretch of bytes
        (zipped()[:-200], "not a whole zip"),
        (b"<html>not found</html>", "not a whole zip"),
        (b"", "not a whole zip"),
    ],
)
def test_refused(data, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        take(data, tmp_path / "b")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["other"], "no marker among the 1 files"),
        (["a/marker", "b/marker"], "the zip holds 2 bundles"),
        (["marker"], "the zip lacks table; correct the url"),
        (["x/marker", "table"], "the zip lacks table"),
        ([f"{i}" for i in range(9)], "the zip holds 9 files, a bundle at most 8"),
    ],
)
def test_no_bundle(names, sentence, monkeypatch):
    monkeypatch.setattr(room, "MAX_MEMBERS", 8)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with zipfile.ZipFile(stream) as archive, pytest.raises(InputError, match=sentence):
        choose(archive, WANTED, "zip")


def test_zip64_is_read(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in GOOD.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    data = bytearray(stream.getvalue())
    n, size, start = struct.unpack_from("<HII", data, len(data) - 12)  # as of a zip of more than 4 GB
    end = len(data) - 22
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    struct.pack_into("<HHII", data, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    take(bytes(data[:end]) + wide + locator + bytes(data[end:]), tmp_path)
    assert (tmp_path / "image").read_bytes() == GOOD["image"]
