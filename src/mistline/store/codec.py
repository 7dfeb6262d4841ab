"""One record: an image and a sparse gene row in one byte string, checked and losslessly compressed.

    header   magic, version, wide counts?, channels, height, width, genes, compressed image bytes, crc32
    image    uint8 [C, H, W] as differences of neighbouring bytes, in one zstd frame
    genes    u16 [n] index into the slide's gene order
    counts   u16 [n], or u32 [n] where a sum exceeds 65,535

All numbers are little-endian; the crc32 covers everything but itself.
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import zstandard
from numpy.typing import NDArray

from mistline.core.errors import InputError

MAGIC = b"MIST"
VERSION = 2
MAX_GENES = 2**16
_FIELDS = struct.Struct("<4sBBHHHII")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CRC.size
# Neighbouring pixels differ by little, and differences of noisy pixels hold no repeats worth a search: nearly all of
# the gain is zstd's entropy coder, so the search table is the smallest there is (decision 7 has the figures).
_PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    window_log=14,
    hash_log=6,
    chain_log=6,
    search_log=1,
    min_match=7,
    target_length=0,  # above 0 the entropy coder would be left out
    write_content_size=False,  # the header has it
)
_U2, _U4 = np.dtype("<u2"), np.dtype("<u4")
_NO_INDEX, _NO_COUNT = np.empty(0, np.uint16), np.empty(0, np.int32)


class _Contexts(threading.local):
    """The (de)compressor of each thread: making one costs as much as using it on a 4 KB crop."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_ZSTD = _Contexts()


class Record(NamedTuple):
    """What one key of a shard holds.

    Attributes:
        image: uint8 [C, H, W].
        gene_index: uint16 [n], ascending, into the slide's gene order.
        gene_count: int32 [n], transcripts of each of these genes.
    """

    image: NDArray[np.uint8]
    gene_index: NDArray[np.uint16]
    gene_count: NDArray[np.int32]


def encode(
    image: NDArray[np.uint8], gene_index: NDArray[np.integer[Any]], gene_count: NDArray[np.integer[Any]]
) -> bytes:
    """Turn an image and its genes into bytes; equal arguments give equal bytes.

    Args:
        image: uint8 [C, H, W].
        gene_index: [n] positions in the slide's gene order, each below 65,536.
        gene_count: [n] counts, whole and >= 0.

    Raises:
        ValueError: an argument has another type, shape or range.
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"a record's image is uint8 [C, H, W], not {image.dtype} {image.shape}")
    if gene_index.shape != gene_count.shape or gene_index.ndim != 1:
        raise ValueError(f"gene_index {gene_index.shape} and gene_count {gene_count.shape} must be equally long rows")
    if gene_index.dtype != _U2:
        _require_range(gene_index, MAX_GENES - 1, "gene index")
    wide = gene_count.dtype != _U2 and _require_range(gene_count, 0x7FFFFFFF, "gene count") > 0xFFFF
    pixels = _ZSTD.compress(imagecodecs.delta_encode(image.reshape(-1)).data)
    index = gene_index.astype(_U2, copy=False).tobytes()
    count = gene_count.astype(_U4 if wide else _U2, copy=False).tobytes()
    fields = _FIELDS.pack(MAGIC, VERSION, wide, *image.shape, gene_index.size, len(pixels))
    crc = zlib.crc32(count, zlib.crc32(index, zlib.crc32(pixels, zlib.crc32(fields))))
    return b"".join((fields, _CRC.pack(crc), pixels, index, count))


def decode(data: bytes | memoryview, where: str = "record", pixels: bool = True, genes: bool = True) -> Record:
    """Turn a record's bytes back into arrays that own their memory.

    Args:
        data: what `encode` returned.
        where: how to name the record in an error, such as `shards/cell/0000.lmdb, key 17`.
        pixels: decompress the image; without, it is [C, 0, 0]. All bytes are checked either way.
        genes: read the gene row; without, it is empty.

    Raises:
        InputError: the bytes are damaged, or no record of this version.
    """
    view = memoryview(data)
    if len(view) < _HEADER_BYTES or view[:4] != MAGIC:
        raise _damaged(where, "not a record of this program")
    _, version, wide, channels, height, width, n_genes, n_bytes = _FIELDS.unpack_from(view)
    if version != VERSION:
        raise _damaged(where, f"a record of format {version}, this program reads format {VERSION}")
    body = view[_HEADER_BYTES:]
    (crc,) = _CRC.unpack_from(view, _FIELDS.size)
    if zlib.crc32(body, zlib.crc32(view[: _FIELDS.size])) != crc:
        raise _damaged(where, "its checksum does not fit its bytes")
    if pixels:
        raw = np.frombuffer(_ZSTD.decompress(body[:n_bytes], channels * height * width), np.uint8)
        image = imagecodecs.delta_decode(raw).reshape(channels, height, width)
    else:
        image = np.empty((channels, 0, 0), np.uint8)
    if not genes:
        return Record(image, _NO_INDEX, _NO_COUNT)
    index = np.frombuffer(body, _U2, n_genes, n_bytes)
    count = np.frombuffer(body, _U4 if wide else _U2, n_genes, n_bytes + 2 * n_genes)
    return Record(image, index.astype(np.uint16), count.astype(np.int32))


def _require_range(values: NDArray[np.integer[Any]], most: int, what: str) -> int:
    """Return the largest value, after checking that all lie in 0 .. most."""
    if not values.size:
        return 0
    top = int(values.max())
    if int(values.min()) < 0 or top > most:
        raise ValueError(f"a {what} lies outside 0 .. {most}")
    return top


def _damaged(where: str, what: str) -> InputError:
    return InputError(where, what, "remove the shard folder and run its stage again")
