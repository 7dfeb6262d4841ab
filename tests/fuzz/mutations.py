"""Ways in which a file goes bad: each takes its path and a random generator, and changes it.

Half of them know nothing of what the file is and change its bytes; the others open it, change what it says and write
it again, so that a reader gets past its header.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Bytes = Callable[[bytes, random.Random], bytes]
Change = Callable[[Path, random.Random], None]

NUMBERS: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, -1, 0, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, -(10**30),
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "\n", "a\nb", "\x1b[31m", "nan", "None", "../..", "/", "é", "世界", "\ud83d", "x" * 5000, "-1",
    "1e999", "$(touch x)", "<script>", "{}", '"', "'", ",", "\t", "1" * 5000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (*NUMBERS, *TEXTS, None, True, [], {}, [[]], [None], {"": None})
_DEEP = 100_000
_FEW = 64


def change_bytes(path: Path, chance: random.Random) -> str:
    """Change a file as if its bytes meant nothing; return how."""
    data = path.read_bytes()
    name = chance.choice([*BYTES, *(TEXT if _is_text(data) else ())])
    path.unlink()
    path.write_bytes((BYTES | TEXT)[name](data, chance))
    return name


def swap(path: Path, others: Sequence[Path], chance: random.Random) -> str:
    """Put another file in the place of one, or a part of it."""
    other = chance.choice(others)
    own, foreign = path.read_bytes(), other.read_bytes()
    path.unlink()
    if chance.random() < 0.5:
        path.write_bytes(foreign)
        return f"the bytes of {other.name}"
    place = chance.randrange(len(own) + 1)
    path.write_bytes(own[:place] + foreign[chance.randrange(len(foreign) + 1) :])
    return f"continued as {other.name}"


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:1000] and data[:1] not in (b"P", b"\x89")


def _span(data: bytes, chance: random.Random, most: int = 4096) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.randrange(1, chance.choice([2, 16, most])))


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    # Headers and footers say what the rest is: a third of the flips goes to each.
    where = chance.choice([(0, min(_FEW * 8, len(changed))), (max(0, len(changed) - _FEW * 16), len(changed))])
    low, high = chance.choice([where, (0, len(changed))])
    for _ in range(chance.choice([1, 1, 1, 2, 8, 64])):
        changed[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwritten(data: bytes, chance: random.Random) -> bytes:
    start, stop = _span(data, chance)
    kind = chance.randrange(3)
    filling = (b"\0" * (stop - start), b"\xff" * (stop - start), chance.randbytes(stop - start))[kind]
    return data[:start] + filling + data[stop:]


def _inserted(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.choice([1, 4, 100, 5000])) + data[place:]


def _doubled(data: bytes, chance: random.Random) -> bytes:
    start, stop = _span(data, chance)
    return data[:stop] + data[start:]


def _removed(data: bytes, chance: random.Random) -> bytes:
    start, stop = _span(data, chance)
    return data[:start] + data[stop:]


def _moved(data: bytes, chance: random.Random) -> bytes:
    start, stop = _span(data, chance)
    rest, place = data[:start] + data[stop:], chance.randrange(len(data) - (stop - start) + 1)
    return rest[:place] + data[start:stop] + rest[place:]


BYTES: dict[str, Bytes] = {
    "flipped bits": _flipped,
    "flipped bits again": lambda data, chance: _flipped(_flipped(data, chance), chance),
    "overwritten": _overwritten,
    "truncated": lambda data, chance: data[: chance.randrange(len(data) + 1)],
    "inserted": _inserted,
    "a block twice": _doubled,
    "a block removed": _removed,
    "a block moved": _moved,
    "longer": lambda data, chance: data + chance.randbytes(chance.choice([1, 1000])),
    "twice": lambda data, _: data + data,
    "empty": lambda *_: b"",
    "noise": lambda data, chance: chance.randbytes(len(data)),
}


def _token(data: bytes, chance: random.Random) -> bytes:
    """Put something else in the place of a word or a number."""
    found = list(re.finditer(rb"[\w.+-]+", data))
    if not found:
        return b"?"
    at = chance.choice(found)
    value = chance.choice([value for value in VALUES if not isinstance(value, list | dict)])
    shown = str(value) if isinstance(value, str) or chance.random() < 0.5 else json.dumps(value)
    return data[: at.start()] + shown.encode("utf-8", "surrogatepass") + data[at.end() :]


def _line(data: bytes, chance: random.Random) -> bytes:
    """Remove, double or exchange a line."""
    lines = data.splitlines(keepends=True)
    place, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(3)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(other, lines[place])
    else:
        lines[place], lines[other] = lines[other], lines[place]
    return b"".join(lines)


def _recoded(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(chance.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"]))


def _nested(data: bytes, chance: random.Random) -> bytes:
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b'"', b'"'), (b"(", b")")])
    deep = opening * _DEEP + b"1" + closing * _DEEP
    return deep if chance.random() < 0.5 else data[: len(data) // 2] + deep + data[len(data) // 2 :]


TEXT: dict[str, Bytes] = {
    "another word": _token,
    "another word again": _token,
    "lines": _line,
    "another encoding": _recoded,
    "deeply nested": _nested,
    "latin": lambda data, _: data.replace(b"a", b"\xe4", 3),
    "without breaks": lambda data, _: data.replace(b"\n", b" "),
}


def change_json(path: Path, chance: random.Random) -> str:
    """Change one place of a JSON file, or a few."""
    value = json.loads(path.read_text())
    told = [change_value(value, chance) for _ in range(chance.choice([1, 1, 1, 3]))]
    path.unlink()
    path.write_bytes(json.dumps(value).encode("utf-8", "surrogatepass"))
    return "; ".join(told)


def change_value(value: Any, chance: random.Random) -> str:
    """Change one place below a list or mapping; return which and to what."""
    path, inner = "", value
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            return f"{path} is empty"
        key = chance.choice(keys)
        path += f"/{str(key)[:40]}"
        if not isinstance(inner[key], dict | list) or not inner[key] or chance.random() < 0.15:
            break
        inner = inner[key]
    kind = chance.randrange(6)
    if kind == 0:
        del inner[key]
        return f"{path} removed"
    if kind == 1 and isinstance(inner, dict):
        inner[chance.choice(TEXTS)] = inner.pop(key)
        return f"{path} renamed"
    if kind == 2 and isinstance(inner, list):
        inner.insert(key, inner[key])
        return f"{path} doubled"
    inner[key] = chance.choice(VALUES)
    return f"{path} = {str(inner[key])[:40]!r}"
