"""Latents and conditions of a slide's cells on disk: what generators of images are trained on and judged by.

A folder with `shards/` (a record a cell), `cells.parquet` (a row a cell) and `origin.json` (what made them). A record
is a checksum, which begins with its key, and the numbers, little-endian float32: mean, standard deviation, tokens;
`origin.json` tells the shapes.

`B` cells, `c, h, w` channels and sides of the latents, `R` readings of `T` tokens of `D` numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import atomic_path, read_json, read_parquet, write_json, write_parquet
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter

COLUMNS = ("slide", "donor", "cell_id", "row", "split", "x_um", "y_um", "side_um")
_SHARDS, _CELLS, _ORIGIN = "shards", "cells.parquet", "origin.json"
_REMEDY = "remove the folder and run encode_cells again"
_SHARD_GB = 1.0
_CRC = struct.Struct("<I")
_F4 = np.dtype("<f4")

Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LatentOrigin:
    """What latents and tokens were made from.

    Args:
        seed: of the two runs.
        autoencoder_sha256: hash of the weights of the run that encoded the images.
        condition_sha256: of the run that gave the tokens.
        dataset_version: hash of the manifest.
        image_size: side of the encoded images, pixels.
        present: [R][T] which tokens the condition's run gives; the others are 0.
    """

    seed: int
    autoencoder_sha256: str
    condition_sha256: str
    dataset_version: str
    image_size: int
    present: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some cells.

    Args:
        mean: float32 [B, c, h, w] of the latents, in units in which those of training cells have variance 1.
        std: float32 [B, c, h, w], in the same units.
        tokens: float32 [B, R, T, D].
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    tokens: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.mean)


class LatentWriter:
    """Write the cells of a slide; the folder appears as a whole when the block succeeds.

    Args:
        folder: where they go.
        origin: what they are made from.
        expected_cells: about how many.
    """

    def __init__(self, folder: Path, origin: LatentOrigin, expected_cells: int) -> None:
        self._folder, self._origin, self._expected = Path(folder), origin, expected_cells
        self._stack = ExitStack()
        self._shards: ShardWriter | None = None
        self._cells: list[pd.DataFrame] = []
        self._shapes: list[list[int]] = []

    def __enter__(self) -> LatentWriter:
        with ExitStack() as stack:
            self._part = stack.enter_context(atomic_path(self._folder))
            self._part.mkdir()
            self._stack = stack.pop_all()
        return self

    def put(self, cells: pd.DataFrame, encoded: Encoded) -> None:
        """Append cells.

        Args:
            cells: [B] rows with the columns `COLUMNS`.
            encoded: what belongs to them.

        Raises:
            ValueError: rows, shapes or columns do not fit.
            InputError: a number is not finite; names the cell.
        """
        shapes = [list(part.shape[1:]) for part in (encoded.mean, encoded.tokens)]
        if encoded.std.shape != encoded.mean.shape or len(cells) != len(encoded) or len(cells) != len(encoded.tokens):
            raise ValueError(f"{len(cells)} cells, means {encoded.mean.shape}, tokens {encoded.tokens.shape}")
        flat = [part.reshape(len(cells), -1) for part in (encoded.mean, encoded.std, encoded.tokens)]
        rows = np.concatenate(flat, axis=1).astype(_F4, copy=False)
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            what = f"the latents or tokens of cell {cells['cell_id'].iloc[int(bad.argmax())]} are not finite"
            raise InputError(self._folder, what, "train the autoencoder and the condition's model again")
        if self._shards is None:
            n_bytes = self._expected * (rows.shape[1] * _F4.itemsize + _CRC.size)
            self._shards = self._stack.enter_context(ShardWriter(self._part / _SHARDS, n_bytes, _SHARD_GB))
            self._shapes = shapes
        if shapes != self._shapes:
            raise ValueError(f"shapes {shapes}, those before were {self._shapes}")
        for row in rows:
            told = row.tobytes()
            self._shards.put(_CRC.pack(zlib.crc32(told, self._shards.n_records)) + told)
        self._cells.append(cells[list(COLUMNS)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as problem:
                self._stack.__exit__(type(problem), problem, problem.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if not self._cells:
            what = "none of its cells is in the train, val or test split"
            raise InputError(self._folder, what, "leave this slide out")
        write_parquet(self._part / _CELLS, pd.concat(self._cells, ignore_index=True))
        latent, tokens = self._shapes
        write_json(self._part / _ORIGIN, {**asdict(self._origin), "latent_shape": latent, "token_shape": tokens})


class LatentReader:
    """Cells 0 .. n-1 of a folder that `LatentWriter` wrote.

    Args:
        folder: of one slide.

    Attributes:
        folder: of one slide.
        origin: what the cells are made from.
        cells: table of the cells, row = key: `COLUMNS`; `row` is the cell's row in the slide's own files.
        latent_shape: (c, h, w).
        token_shape: (R, T, D).

    Raises:
        InputError: it is not such a folder, or a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(self.folder, "no such folder", "run encode_cells")
        told = read_json(self.folder / _ORIGIN)
        try:
            channels, height, width = (int(side) for side in told.pop("latent_shape"))
            readings, tokens, size = (int(side) for side in told.pop("token_shape"))
            told["present"] = tuple(tuple(map(bool, reading)) for reading in told["present"])
            self.origin = LatentOrigin(**told)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(self.folder / _ORIGIN, "it does not say what made these latents", _REMEDY) from None
        self.latent_shape, self.token_shape = (channels, height, width), (readings, tokens, size)
        self.cells = read_parquet(self.folder / _CELLS, COLUMNS, made_by="encode_cells")
        self._shards = ShardReader(self.folder / _SHARDS)
        if len(self._shards) != len(self.cells):
            what = f"{len(self._shards)} records for the {len(self.cells)} cells of {_CELLS}"
            raise InputError(self.folder, what, _REMEDY)

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, keys: Sequence[int] | NDArray[np.int64]) -> Encoded:
        """Read cells, in the order asked for.

        Raises:
            IndexError: no such key.
            InputError: a record is missing or damaged; names the folder and the key.
        """
        n = int(np.prod(self.latent_shape))
        rows = np.empty((len(keys), 2 * n + int(np.prod(self.token_shape))), dtype=np.float32)
        for row, key in zip(rows, keys, strict=True):
            row[:] = self._row(int(key), row.size)
        mean, std, tokens = np.split(rows, [n, 2 * n], axis=1)
        shape = (len(keys), *self.latent_shape)
        return Encoded(mean.reshape(shape), std.reshape(shape), tokens.reshape(len(keys), *self.token_shape))

    def _row(self, key: int, size: int) -> Row:
        told = memoryview(self._shards.raw(key))
        numbers = told[_CRC.size :]
        if len(numbers) != size * _F4.itemsize or _CRC.unpack_from(told)[0] != zlib.crc32(numbers, key):
            raise InputError(f"{self.folder}, key {key}", "its checksum does not fit its bytes and key", _REMEDY)
        return np.frombuffer(numbers, _F4)
