from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from mistline.core.errors import InputError, OutputError, ResourceError
from mistline.data import open_dataset, staging
from mistline.data.staging import Stored, stage
from mistline.store.manifest import read_manifest
from mistline.store.reader import ShardReader

Usage = namedtuple("Usage", "total used free")


def _stored(root: Path, slide: str = "s1", scale: str = "cell") -> Stored:
    manifest = read_manifest(root)
    entry = manifest.slides[slide]["scales"][scale]["shards"]
    return Stored(manifest.locate(entry["path"]), entry["files"])


def _copies(scratch: Path) -> list[Path]:
    return sorted(path for path in (scratch / "mistline-shards").iterdir() if path.is_dir())


def _inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def _overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_records_read_from_scratch_are_the_same(sealed, tmp_path):
    scratch = tmp_path / "local scrätch"
    plain = open_dataset(sealed, image_size=10, context=["niche"])
    staged = open_dataset(sealed, image_size=10, context=["niche"], scratch=scratch)
    wanted = [0, 300, 479]
    for found, expected in ((staged.__getitems__(wanted), plain.__getitems__(wanted)),):
        assert torch.equal(found.image, expected.image)
        assert torch.equal(found.context["niche"].tiles.image, expected.context["niche"].tiles.image)
    assert len(_copies(scratch)) == 4  # cells and niches of two slides
    assert all(str(reader.folder).startswith(str(scratch)) for reader in staged._reader._open.values())
    assert not list(scratch.rglob("*.part"))


def test_only_what_is_read_is_copied(sealed, tmp_path):
    open_dataset(sealed, image_size=10, slides=["s2"], scratch=tmp_path)
    assert len(_copies(tmp_path)) == 1
    open_dataset(sealed, image_size=None, genes=None, scratch=tmp_path)
    assert len(_copies(tmp_path)) == 1


def test_nothing_is_copied_where_no_scratch_is_given(sealed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_dataset(sealed)[0]
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_is_right_is_used_again(sealed, tmp_path):
    (first,) = stage([_stored(sealed)], tmp_path).values()
    before = _inodes(first)
    (second,) = stage([_stored(sealed)], tmp_path).values()
    assert first == second
    assert _inodes(second) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no stamp and flipped"])
def test_a_copy_that_is_wrong_is_made_again(sealed, tmp_path, damage):
    folder = _stored(sealed)
    (copy,) = stage([folder], tmp_path).values()
    file = copy / "0000.lmdb"
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        _overwrite(file, bytes(data[:-4096]))
    else:
        data[len(data) // 2] ^= 1
        _overwrite(file, bytes(data))
    if damage.startswith("no stamp"):
        (copy / "staged.json").unlink()
    assert stage([folder], tmp_path) == {folder.path: copy}
    assert file.read_bytes() == (folder.path / "0000.lmdb").read_bytes()
    assert len(ShardReader(copy)) == 240


def test_a_right_copy_without_stamp_is_proven_by_its_hashes(sealed, tmp_path):
    folder = _stored(sealed)
    (copy,) = stage([folder], tmp_path).values()
    (copy / "staged.json").unlink()
    before = _inodes(copy)
    stage([folder], tmp_path)
    assert {name: number for name, number in _inodes(copy).items() if name != "staged.json"} == {
        name: number for name, number in before.items() if name != "staged.json"
    }


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_shard_is_named_and_no_copy_is_left(own, tmp_path, damage):
    folder = _stored(own)
    file = folder.path / "0000.lmdb"
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        _overwrite(file, bytes(data[:-4096]))
    else:
        data[100] ^= 1
        _overwrite(file, bytes(data))
    with pytest.raises(InputError, match=r"0000\.lmdb: .*(not the \d+ bytes|it is not there)"):
        stage([folder], tmp_path / "scratch")
    assert _copies(tmp_path / "scratch") == []


def test_too_little_space_is_said_before_anything_is_copied(sealed, tmp_path, monkeypatch):
    both = [_stored(sealed), _stored(sealed, scale="niche")]
    needed = sum(folder.n_bytes for folder in both)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - needed + 1, needed - 1))
    with pytest.raises(ResourceError, match=r"GB, .* GB are free; choose another --scratch, or leave it out"):
        stage(both, tmp_path)
    assert _copies(tmp_path) == []
    stage(both[:1], tmp_path)  # that one fits
    assert len(_copies(tmp_path)) == 1


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_copy(sealed, tmp_path, monkeypatch):
    def full(source, target, expected) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(staging, "_copy_file", full)
    with pytest.raises(OutputError, match="the disk is full; choose another --scratch"):
        stage([_stored(sealed)], tmp_path)
    assert _copies(tmp_path) == []


def test_a_scratch_without_permission_is_one_sentence(sealed, tmp_path):
    scratch = tmp_path
    if os.geteuid() == 0:  # may write anywhere but where the kernel shows itself
        scratch = Path("/sys/kernel/scratch")
    else:
        scratch.chmod(0o555)
    with pytest.raises(OutputError, match="no permission to write here; choose another --scratch"):
        stage([_stored(sealed)], scratch)


def test_a_file_in_the_place_of_scratch_is_one_sentence(sealed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --scratch"):
        stage([_stored(sealed)], tmp_path / "file")


def _stage_in_child(folder: Stored, scratch: Path, start, results) -> None:
    copied: list[str] = []
    copy = staging._copy_file

    def counted(source, target, expected) -> None:
        copied.append(source.name)
        copy(source, target, expected)

    staging._copy_file = counted
    start.wait()
    (found,) = stage([folder], scratch).values()
    results.put((len(copied), len(ShardReader(found))))


def test_two_processes_at_once_make_one_copy(sealed, tmp_path):
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(2), fork.Queue()
    folder = _stored(sealed)
    children = [fork.Process(target=_stage_in_child, args=(folder, tmp_path, start, results)) for _ in range(2)]
    for child in children:
        child.start()
    found = sorted(results.get(timeout=60) for _ in children)
    for child in children:
        child.join(timeout=60)
    assert found == [(0, 240), (len(folder.files), 240)]


def _die_while_copying(folder: Stored, scratch: Path) -> None:
    def half(source, target, expected) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        os.kill(os.getpid(), 9)

    staging._copy_file = half
    stage([folder], scratch)


def test_a_killed_copy_is_not_trusted_and_its_lock_is_free(sealed, tmp_path):
    folder = _stored(sealed)
    child = multiprocessing.get_context("fork").Process(target=_die_while_copying, args=(folder, tmp_path))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -9
    (copy,) = stage([folder], tmp_path).values()
    assert {name: (copy / name).read_bytes() for name in folder.files} == {
        name: (folder.path / name).read_bytes() for name in folder.files
    }
    assert _copies(tmp_path) == [copy]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_read_the_copies_too(sealed, tmp_path):
    own = Path(shutil.copytree(sealed, tmp_path / "results"))
    dataset = open_dataset(own, image_size=10, scratch=tmp_path / "scratch")
    expected = [batch.image for batch in dataset.loader(100)]
    for path in own.glob("slides/*/shards/cell/*.lmdb"):
        path.unlink()  # the network disk is not needed any more
    found = [batch.image for batch in dataset.loader(100, num_workers=2)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
