"""How numbers and text lie in the page: deflated bytes as base64, and JSON that no id can break out of."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from numpy.typing import NDArray

MISSING = 0  # the code of a cell without a value


@dataclass
class Blocks:
    """The binary parts of the page; each becomes one element of text that is read when it is needed.

    Attributes:
        texts: base64, by number.
        palettes: names and colours of classes, by number; slides share them.
    """

    texts: list[str] = field(default_factory=list)
    palettes: list[dict[str, list[str]]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes they add to the page."""
        return sum(map(len, self.texts))

    def add_bytes(self, data: bytes) -> int:
        """Store bytes as they are, such as a compressed picture; return their number."""
        self.texts.append(base64.b64encode(data).decode("ascii"))
        return len(self.texts) - 1

    def add_array(self, values: NDArray[np.unsignedinteger[Any]]) -> int:
        """Store uint8 or uint16 values; all low bytes come before all high bytes, which deflates better.

        Raises:
            ValueError: they are of another type.
        """
        if values.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{values.dtype} is neither uint8 nor uint16")
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        planes = little.reshape(-1, 1).view(np.uint8).T
        return self.add_bytes(zlib.compress(planes.tobytes(), 9))

    def add_lines(self, lines: Sequence[str]) -> int:
        """Store strings, none of which may hold a NUL."""
        return self.add_bytes(zlib.compress("\0".join(line.replace("\0", "�") for line in lines).encode(), 9))

    def add_palette(self, names: Sequence[str], colours: Sequence[str]) -> int:
        """Store names and colours of code 1, 2, ... once; return their number."""
        palette = {"names": list(names), "colours": list(colours)}
        if palette not in self.palettes:
            self.palettes.append(palette)
        return self.palettes.index(palette)

    def cut(self, length: int) -> None:
        """Forget all but the first `length` blocks."""
        del self.texts[length:]


@dataclass(frozen=True)
class Codes:
    """Numbers as whole codes: value = low + (code - 1) * step; code 0 is a missing value.

    Attributes:
        codes: uint8 or uint16.
        low: value of code 1.
        step: between neighbouring codes; 1 where all values are whole and few enough, which loses nothing.
    """

    codes: NDArray[np.unsignedinteger[Any]]
    low: float
    step: float


def quantise(values: NDArray[Any], n_codes: int = 2**16) -> Codes:
    """Turn numbers into codes: whole ones exactly where their range allows, others to 1/65,534 of their range.

    Args:
        values: numbers.
        n_codes: how many codes there are, that of a missing value included; fewer are coarser and take less room.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = np.isfinite(numbers)
    if not known.any():
        return Codes(np.zeros(numbers.shape, dtype=np.uint8), 0.0, 1.0)
    low, high = float(numbers[known].min()), float(numbers[known].max())
    whole = bool((numbers[known] == np.round(numbers[known])).all()) and high - low < n_codes - 1
    step = 1.0 if whole or high == low else (high - low) / (n_codes - 2)
    codes = np.where(known, np.round((np.where(known, numbers, low) - low) / step) + 1, MISSING)
    return Codes(narrow(codes), low, step)


def narrow(codes: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Return codes as uint8 where they fit, else as uint16."""
    return codes.astype(np.uint8 if codes.size == 0 or codes.max() < 256 else np.uint16)


def json_text(value: Any) -> Markup:
    """Return JSON that can stand in a script element: no character of it means anything in HTML."""
    return htmlsafe_json_dumps(value, sort_keys=True, allow_nan=False)
