from __future__ import annotations

import shutil
from collections import namedtuple

import lmdb
import numpy as np
import pytest

from mistline.core.errors import InputError, OutputError
from mistline.core.hashing import hash_file
from mistline.export.published_lmdb import SIDE_PX, Resizer, Source, write_published
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter


def shards(folder, sides, seed=0):
    rng = np.random.default_rng(seed)
    images = [smooth(rng, side)[None] for side in sides]
    with ShardWriter(folder, 10_000, 0.001) as writer:
        for key, image in enumerate(images):
            writer.put(encode(image, np.array([1], np.uint16), np.array([1], np.uint16), key))
    return images


def smooth(rng, side):
    """A nucleus on noise."""
    yx = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    light = 200 * np.exp(-3 * (yx**2).sum(axis=0)) + rng.uniform(0, 20, (side, side))
    return light.astype(np.uint8)


def published(crop):
    """The published way, by the library it uses."""
    transform = pytest.importorskip("skimage.transform", reason="comes with the viewer extra")
    size = (SIDE_PX, SIDE_PX)
    return transform.resize(crop, size, preserve_range=True, anti_aliasing=True).astype(np.uint8)


@pytest.mark.parametrize("side", [8, 23, 54, 81, 124, 255, 256, 300, 1024])
def test_pixels_are_those_of_the_published_way(side):
    crop = smooth(np.random.default_rng(side), side)
    expected = published(crop) if side != SIDE_PX else crop
    difference = np.abs(Resizer()(crop).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


def read_like_the_published_loader(path, dataset, cell_id):
    env = lmdb.open(str(path), readonly=True, lock=False, subdir=False, map_size=1024**4)
    with env.begin() as transaction:
        data = transaction.get(f"{dataset}/{cell_id}".encode())
        image = None if data is None else np.frombuffer(data, dtype=np.uint8).reshape(256, 256).copy()
    env.close()
    return image


def test_the_published_loader_finds_every_cell_of_every_slide(tmp_path):
    names = {"s1": ["b-1", "a-1", "c-1"], "s1-x": ["a-1"], "0": ["z", "y"]}
    made = {
        name: shards(tmp_path / name, range(20, 20 + len(ids)), seed) for seed, (name, ids) in enumerate(names.items())
    }
    sources = [Source(name, ids, tmp_path / name) for name, ids in names.items()]
    assert write_published(tmp_path / "all.lmdb", sources) == 6
    resize = Resizer()
    for name, ids in names.items():
        for cell_id, image in zip(ids, made[name], strict=True):
            assert (read_like_the_published_loader(tmp_path / "all.lmdb", name, cell_id) == resize(image[0])).all()
    assert read_like_the_published_loader(tmp_path / "all.lmdb", "s1", "d-1") is None
    assert not [path.name for path in tmp_path.iterdir() if "lock" in path.name or path.name.startswith(".")]


def test_many_batches_hold_the_same_and_again_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("mistline.export.published_lmdb._BATCH_RECORDS", 7)
    shards(tmp_path / "s", range(10, 40))
    source = Source("s", [f"{i}" for i in range(30)], tmp_path / "s")
    hashes = []
    for name in ("one.lmdb", "two.lmdb"):
        write_published(tmp_path / name, [source])
        hashes.append(hash_file(tmp_path / name))
    assert hashes[0] == hashes[1]
    resize, crop = Resizer(), shards(tmp_path / "again", range(10, 40))[17][0]
    assert (read_like_the_published_loader(tmp_path / "one.lmdb", "s", "17") == resize(crop)).all()


def test_a_channel_can_be_chosen(tmp_path):
    image = np.stack([np.full((256, 256), value, np.uint8) for value in (3, 9)])
    with ShardWriter(tmp_path / "s", 10_000, 0.001) as writer:
        writer.put(encode(image, np.empty(0, np.uint16), np.empty(0, np.uint16), 0))
    write_published(tmp_path / "x.lmdb", [Source("s", ["1"], tmp_path / "s")], channel=1)
    assert (read_like_the_published_loader(tmp_path / "x.lmdb", "s", "1") == 9).all()


def test_an_index_of_other_records_is_refused_and_leaves_nothing(tmp_path):
    shards(tmp_path / "s", [20, 21])
    with pytest.raises(InputError, match="hold 2 records, their index 1"):
        write_published(tmp_path / "out" / "x.lmdb", [Source("s", ["a"], tmp_path / "s")])
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path, monkeypatch):
    shards(tmp_path / "s", [20])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match="are needed"):
        write_published(tmp_path / "out" / "x.lmdb", [Source("s", ["a"], tmp_path / "s")])
    assert not (tmp_path / "out").exists()
