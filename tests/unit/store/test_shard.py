from __future__ import annotations

import json
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest

from mistline.core.errors import OutputError
from mistline.core.hashing import hash_file
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter


def _records(n: int, largest: int = 6000, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(int(size)) for size in rng.integers(1, largest, n)]


def _write(folder: Path, records: list[bytes], expected: int, shard_gb: float = 4.0) -> str:
    with ShardWriter(folder, expected, shard_gb) as writer:
        keys = [writer.put(record) for record in records]
    assert keys == list(range(len(records)))
    return hash_file(folder)


@pytest.mark.parametrize("share", [0, 0.4, 3], ids=["no estimate", "too low", "too high"])
def test_same_records_same_bytes_also_when_the_map_had_to_grow(tmp_path, share):
    records = _records(9_000)
    expected = int(share * sum(map(len, records)))
    assert _write(tmp_path / "a", records, expected) == _write(tmp_path / "b", records, expected)
    reader = ShardReader(tmp_path / "a")
    assert all(reader.raw(key) == record for key, record in enumerate(records))


def test_appending_leaves_no_gaps(tmp_path):
    records = _records(5_000, 2000)
    _write(tmp_path / "s", records, 0)
    compact = tmp_path / "compact"
    file = str(tmp_path / "s" / "0000.lmdb")
    with lmdb.open(file, readonly=True, lock=False, subdir=False) as env, compact.open("wb") as stream:
        env.copyfd(stream.fileno(), compact=True)
    assert Path(file).stat().st_size <= 1.01 * compact.stat().st_size


def test_same_records_same_bytes_in_another_process_with_dirty_memory(tmp_path):
    script = (
        "import sys, numpy as np; from pathlib import Path; from mistline.store.shard import ShardWriter\n"
        "rng = np.random.default_rng(0); sizes = rng.integers(1, 6000, 2500)\n"
        "with ShardWriter(Path(sys.argv[1]), 0, 4.0) as writer:\n"
        "    for size in sizes: writer.put(rng.bytes(int(size)))\n"
    )
    hashes = set()
    for perturb in ("0", "165"):  # glibc fills fresh and freed memory with this byte
        folder = tmp_path / perturb
        environment = {"PYTHONPATH": ":".join(sys.path), "MALLOC_PERTURB_": perturb}
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True, env=environment)
        hashes.add(hash_file(folder))
    assert len(hashes) == 1


@pytest.mark.parametrize("largest", [300, 2500, 40_000])
def test_files_stay_below_their_size_and_keys_run_on(tmp_path, largest):
    records = _records(1500, largest)
    limit = sum(map(len, records)) / 4e9
    _write(tmp_path / "s", records, 0, limit)
    files = sorted((tmp_path / "s").glob("*.lmdb"))
    assert len(files) >= 4
    assert all(file.stat().st_size <= limit * 1e9 for file in files)
    reader = ShardReader(tmp_path / "s")
    assert [reader.raw(key) for key in range(len(reader))] == records


def test_a_record_larger_than_the_bound_gets_a_file_of_its_own(tmp_path):
    records = [b"a" * 50_000, b"b" * 3_000_000, b"c"]
    _write(tmp_path / "s", records, 0, 0.001)
    assert len(list((tmp_path / "s").glob("*.lmdb"))) == 3
    assert ShardReader(tmp_path / "s").raw(1) == records[1]


def test_the_folder_holds_read_only_files_and_their_contents(tmp_path):
    _write(tmp_path / "s", _records(10), 0)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["0000.lmdb", "shards.json"]
    file = tmp_path / "s" / "0000.lmdb"
    assert not file.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    contents = json.loads((tmp_path / "s" / "shards.json").read_text())
    assert contents == {"0000.lmdb": {"n_records": 10, "n_bytes": file.stat().st_size}}


def test_no_records_make_an_empty_folder_that_can_be_read(tmp_path):
    _write(tmp_path / "s", [], 0)
    assert len(ShardReader(tmp_path / "s")) == 0


def test_an_old_folder_is_replaced_and_kept_when_the_new_one_fails(tmp_path):
    first = _write(tmp_path / "s", _records(10), 0)
    with pytest.raises(KeyError), ShardWriter(tmp_path / "s", 0, 4.0) as writer:
        writer.put(b"x")
        raise KeyError("interrupted")
    assert hash_file(tmp_path / "s") == first
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert _write(tmp_path / "s", _records(10, seed=1), 0) != first


@pytest.mark.parametrize(
    ("free", "sentence"), [(10**12, "cannot be written.*free space"), (0, "the disk is full; free")]
)
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch, free, sentence):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError, match=sentence):
            _write(tmp_path / "s", _records(1200), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_leave_the_folder_of_one_of_them_whole(tmp_path):
    script = (
        "import sys; from pathlib import Path; from mistline.store.shard import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1]), 0, 0.001) as writer:\n"
        "    for _ in range(int(sys.argv[3])): writer.put(sys.argv[2].encode() * 3000)\n"
    )
    sizes = {"a": 900, "b": 1100}
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    writers = [subprocess.Popen([*command, mark, str(n)], env=environment) for mark, n in sizes.items()]
    assert [writer.wait() for writer in writers] == [0, 0]
    reader = ShardReader(tmp_path / "s")
    found = {reader.raw(key)[:1].decode() for key in range(len(reader))}
    assert len(found) == 1
    assert len(reader) == sizes[found.pop()]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
