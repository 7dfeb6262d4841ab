from __future__ import annotations

import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.store.codec import encode, gene_rows
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter

N = 90


def _record(number: int) -> bytes:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (1, 30 + number, 30), np.uint8)
    return encode(image, np.array([number]), np.array([1 + number]), number)


@pytest.fixture
def folder(tmp_path) -> Path:
    with ShardWriter(tmp_path / "cell", 0, 0.0001) as writer:
        for number in range(N):
            writer.put(_record(number))
    assert len(list((tmp_path / "cell").glob("*.lmdb"))) > 2
    return tmp_path / "cell"


def _numbers(reader: ShardReader) -> list[int]:
    return [int(reader[key].gene_index[0]) for key in range(len(reader))]


def test_keys_run_over_all_files(folder):
    reader = ShardReader(folder)
    assert len(reader) == N
    assert _numbers(reader) == list(range(N))
    assert reader.raw(17) == _record(17)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_either_kind_read_with_a_reader_already_in_use(folder, method):
    reader = ShardReader(folder)
    assert reader[0].gene_count[0] == 1  # opened in this process
    with multiprocessing.get_context(method).Pool(2) as pool:
        # A method of the package: spawned workers cannot import a test module.
        read = pool.starmap_async(ShardReader.raw, [(reader, key) for key in range(N)]).get(timeout=60)
    assert read == [_record(number) for number in range(N)]


def test_it_pickles_as_its_path(folder):
    reader = ShardReader(folder)
    reader.raw(0)
    text = pickle.dumps(reader)
    assert len(text) < 500
    assert _numbers(pickle.loads(text)) == list(range(N))


def test_several_readers_of_one_folder_live_side_by_side(folder):
    readers = [ShardReader(folder) for _ in range(3)]
    assert [_numbers(reader) for reader in readers] == [list(range(N))] * 3
    del readers[0]
    assert _numbers(readers[0]) == list(range(N))


def test_threads_open_it_once(folder):
    with ThreadPoolExecutor(8) as pool:
        readers = [ShardReader(folder) for _ in range(40)]
        assert list(pool.map(_numbers, readers)) == [list(range(N))] * 40


def test_a_shard_made_anew_at_the_same_place_is_another_one(folder):
    old = ShardReader(folder)
    assert old.raw(0) == _record(0)
    with ShardWriter(folder, 0, 0.0001) as writer:
        writer.put(_record(5))
    assert ShardReader(folder).raw(0) == _record(5)
    assert old.raw(0) == _record(0)


def test_a_read_only_folder_is_enough(folder):
    folder.chmod(0o555)
    try:
        before = sorted(path.name for path in folder.iterdir())
        assert _numbers(ShardReader(folder)) == list(range(N))
        assert sorted(path.name for path in folder.iterdir()) == before
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("key", [-1, N])
def test_a_key_outside_is_an_index_error(folder, key):
    with pytest.raises(IndexError, match=f"no key {key}"):
        ShardReader(folder)[key]


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_shard_is_named(folder, which):
    lost = sorted(folder.glob("*.lmdb"))[which]
    lost.unlink()
    with pytest.raises(InputError, match=f"{lost.name}: the shard is missing"):
        ShardReader(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        ShardReader(tmp_path / "nothing")


def _overwrite(path: Path, change) -> None:
    data = bytearray(path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(change(data))


def test_a_truncated_shard_is_named_before_it_is_mapped(folder):
    _overwrite(folder / "0001.lmdb", lambda data: data[:-4096])
    with pytest.raises(InputError, match=r"0001\.lmdb: the shard is truncated"):
        ShardReader(folder)


def test_a_shard_of_zeros_is_named(folder):
    _overwrite(folder / "0000.lmdb", lambda data: bytes(len(data)))
    with pytest.raises(InputError, match=r"0000\.lmdb: not a readable shard"):
        ShardReader(folder)[0]


def test_a_damaged_record_names_shard_and_key(folder):
    def flip(data: bytearray) -> bytearray:
        data[data.index(_record(3)[40:60])] ^= 1
        return data

    _overwrite(folder / "0000.lmdb", flip)
    reader = ShardReader(folder)
    assert reader[2].gene_index[0] == 2
    with pytest.raises(InputError, match=r"0000\.lmdb, key 3: its checksum"):
        reader[3]


def test_genes_are_read_without_the_image_beside_them(folder):
    """A flipped bit is found by who reads it: the image's checksum is another than the genes'."""

    def flip(data: bytearray) -> bytearray:
        data[data.index(_record(3)[60:90]) + 20] ^= 1  # in the image
        return data

    _overwrite(folder / "0000.lmdb", flip)
    reader = ShardReader(folder)
    rows = gene_rows(reader.packed([5, 3, 4], pixels=False))
    assert (rows.index.tolist(), rows.count.tolist(), rows.length.tolist()) == ([5, 3, 4], [6, 4, 5], [1, 1, 1])
    with pytest.raises(InputError, match=r"0000\.lmdb, key 3: its checksum"):
        reader.packed([5, 3])


def test_flipped_genes_are_found_either_way(folder):
    header = _record(3)[:28]
    _overwrite(folder / "0000.lmdb", lambda data: data.replace(_record(3)[:32], header + bytes(4)))
    for pixels in (False, True):
        with pytest.raises(InputError, match="key 3: its checksum"):
            ShardReader(folder).packed([3], pixels)


def test_several_records_come_in_the_order_asked_for(folder):
    records = [packed.record() for packed in ShardReader(folder).packed([80, 2, 2, 41])]
    assert [int(record.gene_index[0]) for record in records] == [80, 2, 2, 41]
    assert [record.image.shape for record in records] == [(1, 110, 30), (1, 32, 30), (1, 32, 30), (1, 71, 30)]


def test_a_shard_put_in_the_place_of_another_is_noticed(folder):
    first, second = folder / "0000.lmdb", folder / "0001.lmdb"
    second.chmod(0o644)
    shutil.copyfile(first, second)
    with pytest.raises(InputError):
        _numbers(ShardReader(folder))
