"""One record: an image and a sparse gene row in one byte string, checked and losslessly compressed.

    header   magic, version, wide counts?, channels, height, width, genes, compressed image bytes, two crc32
    genes    u16 [n] index into the slide's gene order
    counts   u16 [n], or u32 [n] where a sum exceeds 65,535
    image    uint8 [C, H, W] as differences of neighbouring bytes, in one zstd frame

All numbers are little-endian. The first crc32 covers header, genes and counts, the second the image: who reads genes
alone does not touch the image, which is most of a record. The first begins with the record's key in its shards, so that
a record which a damaged shard gives out under another key is refused.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import zstandard
from numpy.typing import NDArray

from mistline.core.errors import InputError

MAGIC = b"MIST"
VERSION = 4
MAX_GENES = 2**16
_FIELDS = struct.Struct("<4sBBHHHII")
_CRCS = struct.Struct("<II")
_HEADER = struct.Struct(_FIELDS.format + "II")
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
    image: NDArray[np.uint8], gene_index: NDArray[np.integer[Any]], gene_count: NDArray[np.integer[Any]], key: int
) -> bytes:
    """Turn an image and its genes into bytes; equal arguments give equal bytes.

    Args:
        image: uint8 [C, H, W].
        gene_index: [n] positions in the slide's gene order, each below 65,536.
        gene_count: [n] counts, whole and >= 0.
        key: under which the record will be read, below 2^32.

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
    pixels = _ZSTD.compress(_differences(image).data)
    index = gene_index.astype(_U2, copy=False).tobytes()
    count = gene_count.astype(_U4 if wide else _U2, copy=False).tobytes()
    fields = _FIELDS.pack(MAGIC, VERSION, wide, *image.shape, gene_index.size, len(pixels))
    crc = zlib.crc32(count, zlib.crc32(index, zlib.crc32(fields, key)))
    return b"".join((fields, _CRCS.pack(crc, zlib.crc32(pixels)), index, count, pixels))


def _differences(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first byte and each byte's difference from the one before it, modulo 256."""
    flat = image.reshape(-1)
    differences = np.empty_like(flat)
    differences[:1] = flat[:1]
    np.subtract(flat[1:], flat[:-1], out=differences[1:])
    return differences


class Packed(NamedTuple):
    """A record whose bytes were checked, still compressed; shows the memory it was read from.

    Attributes:
        shape: C, H, W of the image.
        wide: whether counts have four bytes.
        genes: indices, then counts.
        pixels: the compressed image.
        owner: what must live as long as that memory.
    """

    shape: tuple[int, int, int]
    wide: int
    genes: memoryview
    pixels: memoryview
    owner: object = None

    def image(self, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return the image [C, H, W]; written into `out` [C * H * W] where that is given."""
        raw = np.frombuffer(_ZSTD.decompress(self.pixels, prod(self.shape)), np.uint8)
        return imagecodecs.delta_decode(raw, out=out).reshape(self.shape)

    def record(self) -> Record:
        """Return image and genes as arrays that own their memory."""
        rows = gene_rows([self])
        return Record(self.image(), rows.index, rows.count)


@dataclass(frozen=True, slots=True)
class GeneRows:
    """The genes of several records, one after the other.

    Attributes:
        index: uint16 [N].
        count: int32 [N].
        length: int64 [B], how many of them each record has.
    """

    index: NDArray[np.uint16]
    count: NDArray[np.int32]
    length: NDArray[np.int64]


def unpack(
    data: bytes | memoryview, key: int, where: str = "record", pixels: bool = True, owner: object = None
) -> Packed:
    """Check a record's bytes, as `decode` does, and leave them compressed.

    Args:
        data: what `encode` returned.
        key: under which they were found.
        where: how to name the record in an error, such as `shards/cell/0000.lmdb, key 17`.
        pixels: check the image too; without, it must not be used.
        owner: see `Packed`; not needed for bytes.

    Raises:
        InputError: the bytes are damaged, of another key, or no record of this version.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise _damaged(where, "not a record of this program")
    magic, version, wide, channels, height, width, n_genes, n_bytes, crc, pixel_crc = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise _damaged(where, "not a record of this program")
    if version != VERSION:
        raise _damaged(where, f"a record of format {version}, this program reads format {VERSION}")
    end = _HEADER.size + n_genes * (6 if wide else 4)
    genes, image = view[_HEADER.size : end], view[end:]
    sound = zlib.crc32(genes, zlib.crc32(view[: _FIELDS.size], key)) == crc and len(image) == n_bytes
    if not sound or (pixels and zlib.crc32(image) != pixel_crc):
        raise _damaged(where, "its checksum does not fit its bytes and key")
    return Packed((channels, height, width), wide, genes, image, owner)


def decode(data: bytes | memoryview, key: int, where: str = "record") -> Record:
    """Turn a record's bytes back into arrays that own their memory.

    Args:
        data: what `encode` returned.
        key: under which they were found.
        where: see `unpack`.

    Raises:
        InputError: the bytes are damaged, of another key, or no record of this version.
    """
    return unpack(data, key, where).record()


def gene_rows(records: Sequence[Packed]) -> GeneRows:
    """Return the genes of several records; a few numpy calls for all of them."""
    if any(record.wide for record in records):
        return _wide_rows(records)
    length = np.array([len(record.genes) for record in records], dtype=np.int64) // (2 * _U2.itemsize)
    flat = np.frombuffer(b"".join([record.genes for record in records]), _U2)  # of each: n indices, n counts
    if len(records) == 1:
        return GeneRows(flat[: length[0]].astype(np.uint16), flat[length[0] :].astype(np.int32), length)
    is_count = np.repeat(np.arange(2 * len(records)) % 2 == 1, np.repeat(length, 2))
    return GeneRows(flat[~is_count].astype(np.uint16), flat[is_count].astype(np.int32), length)


def _wide_rows(records: Sequence[Packed]) -> GeneRows:
    """As `gene_rows`, where counts of some record have four bytes."""
    indices, counts = [], []
    for record in records:
        kind = _U4 if record.wide else _U2
        n = len(record.genes) // (_U2.itemsize + kind.itemsize)
        indices.append(np.frombuffer(record.genes, _U2, n).astype(np.uint16))
        counts.append(np.frombuffer(record.genes, kind, n, n * _U2.itemsize).astype(np.int32))
    length = np.array([len(index) for index in indices], dtype=np.int64)
    return GeneRows(np.concatenate(indices), np.concatenate(counts), length)


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
