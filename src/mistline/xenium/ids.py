"""Cell ids: always `str`, as 10x prints them.

A bundle stores an id as an integer (1.0), as text or bytes ("lnbjnnhh-1"), or as a pair (prefix, suffix) in its
zarr files: the prefix is 8 hexadecimal digits written with the letters a to p, the suffix a decimal number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mistline.core.errors import InputError

_DIGITS = 8
_SHIFTS = np.arange(4 * (_DIGITS - 1), -1, -4, dtype=np.uint32)
_A = ord("a")
_REMEDY = "use the ids as the instrument wrote them"

Ids = NDArray[np.object_]


def decode(values: pa.Array | pa.ChunkedArray | NDArray[Any], where: str) -> Ids:
    """Turn stored ids of any kind into text.

    Args:
        values: [n] integers, text or bytes, as an arrow or numpy array; or [n, 2] (prefix, suffix) integers.
        where: file (and column) they come from, for the error.

    Returns:
        [n] object array of str.

    Raises:
        InputError: an id is missing or empty, is not text or holds a zero byte, or the values are no ids at all.
    """
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return decode_pairs(values, where)
    array = _as_arrow(values, where)
    if array.null_count:
        raise InputError(where, f"{array.null_count} cell ids are missing", _REMEDY)
    try:
        text = array.cast(pa.string())
        ids = text.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, UnicodeDecodeError):
        raise InputError(where, "a cell id is not valid text", _REMEDY) from None
    if pc.any(pc.match_substring(text, "\0")).as_py():
        raise InputError(where, "a cell id holds a zero byte", _REMEDY)
    if (ids == "").any():
        raise InputError(where, "a cell id is empty", _REMEDY)
    return ids


def decode_pairs(pairs: NDArray[np.integer], where: str) -> Ids:
    """Turn [n, 2] (prefix, suffix) into ids such as `aaaaaaaa-1`.

    Raises:
        InputError: the array is not [n, 2] unsigned 32-bit integers.
    """
    if pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise InputError(where, f"cell ids of shape {list(pairs.shape)} and type {pairs.dtype}", _REMEDY)
    if not pairs.size:
        return np.empty(0, dtype=object)
    if pairs.min() < 0 or pairs.max() > np.iinfo(np.uint32).max:
        raise InputError(where, "a cell id does not fit 32 bits", _REMEDY)
    prefix = np.ascontiguousarray(pairs[:, 0], dtype=np.uint32)
    nibbles = (prefix[:, None] >> _SHIFTS) & np.uint32(0xF)  # [n, 8]
    letters = (nibbles + _A).astype(np.uint8).view(f"S{_DIGITS}").reshape(-1)
    dashed = np.strings.add(letters.astype(f"U{_DIGITS}"), "-")
    return np.strings.add(dashed, pairs[:, 1].astype(str)).astype(object)


def encode_pairs(ids: Ids, where: str) -> NDArray[np.uint32]:
    """Turn ids such as `aaaaaaaa-1` into [n, 2] (prefix, suffix); the inverse of `decode_pairs`.

    Raises:
        InputError: an id is not 8 letters a to p, a dash and a number.
    """
    if not len(ids):
        return np.empty((0, 2), dtype=np.uint32)
    text = np.asarray(ids, dtype=str)
    head, dash, tail = np.strings.partition(text, "-")
    good = (np.strings.str_len(head) == _DIGITS) & (dash == "-") & np.strings.isdecimal(tail)
    letters = head[good].astype(f"U{_DIGITS}").view(np.uint32).reshape(-1, _DIGITS)  # code points
    in_range = ((letters >= _A) & (letters <= _A + 15)).all(axis=1)
    if not good.all() or not in_range.all():
        culprit = text[~good][0] if not good.all() else text[~in_range][0]
        raise InputError(where, f"cell id {str(culprit)!r} is not eight letters a to p, a dash and a number", _REMEDY)
    prefix = ((letters - _A).astype(np.uint32) << _SHIFTS).sum(axis=1, dtype=np.uint32)
    return np.stack([prefix, tail.astype(np.uint32)], axis=1)


def require_ids(kind: pa.DataType, where: str) -> None:
    """Refuse a column that cannot hold ids.

    Raises:
        InputError: it is neither of integers nor of text, plain or as a dictionary.
    """
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    if not any(is_kind(inner) for is_kind in (*kinds, pa.types.is_large_binary)):
        raise InputError(where, f"cell ids stored as {inner}", _REMEDY)


def _as_arrow(values: pa.Array | pa.ChunkedArray | NDArray[Any], where: str) -> pa.Array:
    if isinstance(values, np.ndarray):
        try:
            values = pa.array(values)
        except (pa.ArrowException, TypeError):
            raise InputError(where, f"cell ids stored as {values.dtype} {values.shape}", _REMEDY) from None
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    require_ids(array.type, where)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
