from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.store.latents import COLUMNS, Encoded, LatentOrigin, LatentReader, LatentWriter
from mistline.store.shard import KEY

ORIGIN = LatentOrigin(0, "a" * 64, "c" * 64, "d" * 64, 16, ((True, True, False, False), (True, True, True, True)))


def _cells(n: int, slide: str = "s1") -> pd.DataFrame:
    numbers = np.arange(n)
    found = pd.DataFrame({"slide": slide, "donor": "d1", "cell_id": [f"c{i}" for i in numbers], "row": 2 * numbers})
    found["split"] = np.array(["train", "val", "test"])[numbers % 3]
    return found.assign(x_um=numbers + 0.5, y_um=numbers * 2.0, side_um=8.0)[list(COLUMNS)]


def _encoded(n: int) -> Encoded:
    rng = np.random.default_rng(n)
    shapes = (n, 2, 3, 3), (n, 2, 3, 3), (n, 2, 4, 5)
    return Encoded(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def _write(folder: Path, n: int = 7) -> Encoded:
    encoded = _encoded(n)
    with LatentWriter(folder, ORIGIN, n) as writer:
        for part in (slice(0, 3), slice(3, n)):
            of = Encoded(encoded.mean[part], encoded.std[part], encoded.tokens[part])
            writer.put(_cells(n).iloc[part], of)
    return encoded


def test_cells_come_back_as_they_were_put(tmp_path):
    encoded = _write(tmp_path / "s1")
    reader = LatentReader(tmp_path / "s1")
    assert (len(reader), reader.origin) == (7, ORIGIN)
    assert (reader.latent_shape, reader.token_shape) == ((2, 3, 3), (2, 4, 5))
    pd.testing.assert_frame_equal(reader.cells, _cells(7))
    keys = [5, 0, 5, 3]
    found = reader.read(keys)
    for name in ("mean", "std", "tokens"):
        np.testing.assert_array_equal(getattr(found, name), getattr(encoded, name)[keys])
    assert len(reader.read([])) == 0
    with pytest.raises(IndexError, match="no key 7"):
        reader.read([7])


def test_same_cells_same_bytes(tmp_path):
    for name in ("a", "b"):
        _write(tmp_path / name)
    assert hash_file(tmp_path / "a") == hash_file(tmp_path / "b")


def test_nothing_is_left_of_what_failed(tmp_path):
    wrong = _encoded(3)
    wrong.tokens[1, 0, 0, 0] = np.nan
    with (
        pytest.raises(InputError, match="tokens of cell c1 are not finite"),
        LatentWriter(tmp_path / "s1", ORIGIN, 3) as writer,
    ):
        writer.put(_cells(3), wrong)
    with (
        pytest.raises(InputError, match="none of its cells is in the train, val or test split"),
        LatentWriter(tmp_path / "s1", ORIGIN, 3),
    ):
        pass
    with pytest.raises(ValueError, match="those before were"), LatentWriter(tmp_path / "s1", ORIGIN, 3) as writer:
        writer.put(_cells(3), _encoded(3))
        writer.put(_cells(3), Encoded(wrong.mean[:, :1], wrong.std[:, :1], _encoded(3).tokens))
    assert not list(tmp_path.iterdir())


def _flip(folder: Path, key: int) -> None:
    """Change one byte of the value that a key has."""
    import lmdb

    path = folder / "shards" / "0000.lmdb"
    with lmdb.open(str(path), readonly=True, lock=False, subdir=False) as file, file.begin() as transaction:
        value = transaction.get(KEY.pack(key))
    data = bytearray(path.read_bytes())
    data[data.index(value) + 20] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_damage_names_the_folder_and_the_key(tmp_path):
    folder = tmp_path / "s1"
    _write(folder)
    _flip(folder, 4)
    reader = LatentReader(folder)
    reader.read([3, 5])
    with pytest.raises(InputError, match=r"s1, key 4: its checksum does not fit .*; .*encode_cells again"):
        reader.read([3, 4])


def test_what_is_no_folder_of_latents_is_refused(tmp_path):
    folder = tmp_path / "s1"
    with pytest.raises(InputError, match="no such folder; run encode_cells"):
        LatentReader(folder)
    _write(folder)
    told = json.loads((folder / "origin.json").read_text())
    (folder / "origin.json").write_text(json.dumps({**told, "present": None}))
    with pytest.raises(InputError, match="does not say what made these latents"):
        LatentReader(folder)
    (folder / "origin.json").write_text(json.dumps(told))
    pd.read_parquet(folder / "cells.parquet").iloc[:5].to_parquet(folder / "cells.parquet")
    with pytest.raises(InputError, match="7 records for the 5 cells"):
        LatentReader(folder)
    (folder / "cells.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cells.parquet: truncated"):
        LatentReader(folder)
