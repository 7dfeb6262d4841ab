from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.mist import pyramid
from mistline.mist.pyramid import Description, Level, LevelWriter, RowWindow, create, halved, level_shapes

SHAPE = (2301, 1405)


def _pixels(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def _write(folder, pieces: int = 700, channels: int = 2):
    arrays = create(folder, Description("s1", ["DAPI", "18S"][:channels], SHAPE, 0.2125))
    for channel in range(channels):
        writer = LevelWriter(arrays, channel)
        for start in range(0, SHAPE[0], pieces):
            writer.append(_pixels(channel)[start : start + pieces])
        writer.finish()
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("image") / "i.ome.zarr")


def test_full_resolution_is_what_was_written(image):
    np.testing.assert_array_equal(zarr.open_array(image, path="0", mode="r")[:], np.stack([_pixels(0), _pixels(1)]))


def test_each_level_is_the_mean_of_the_finer_one(image):
    group = zarr.open_group(image, mode="r")
    shapes = level_shapes(SHAPE)
    assert shapes == [(2301, 1405), (1151, 703), (576, 352), (288, 176)]
    for level in range(1, len(shapes)):
        fine = np.pad(group[str(level - 1)][0], [(0, n % 2) for n in shapes[level - 1]], mode="edge").astype(float)
        blocks = fine.reshape(fine.shape[0] // 2, 2, fine.shape[1] // 2, 2)
        np.testing.assert_array_equal(group[str(level)][0], np.floor(blocks.mean(axis=(1, 3)) + 0.5))


def test_halving_rounds_half_up_and_repeats_an_odd_edge():
    np.testing.assert_array_equal(halved(np.array([[1, 2, 9], [2, 1, 9], [4, 4, 255]], np.uint8)), [[2, 9], [4, 255]])


def test_bytes_do_not_depend_on_the_pieces_it_came_in(tmp_path, image):
    assert hash_file(_write(tmp_path / "a", pieces=333)) == hash_file(image)


def test_metadata_is_ngff_with_micrometres(image):
    ome = json.loads((image / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    multiscale = ome["multiscales"][0]
    assert [(axis["name"], axis.get("unit")) for axis in multiscale["axes"]] == [
        ("c", None), ("y", "micrometer"), ("x", "micrometer"),
    ]  # fmt: skip
    scales = [item["coordinateTransformations"][0]["scale"] for item in multiscale["datasets"]]
    assert scales == [[1.0, 0.2125 * 2**level, 0.2125 * 2**level] for level in range(4)]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "18S"]


def test_chunks_are_packed_into_shards(image):
    assert len(list(image.glob("0/c/*/*/*"))) == 2 * 3  # channels x bands of rows
    metadata = json.loads((image / "0" / "zarr.json").read_text())
    assert metadata["codecs"][0]["name"] == "sharding_indexed"


def test_rows_are_read_once_going_down(image, monkeypatch):
    read = []
    original = Level.read_rows

    def counted(self, rows, out):
        read.append((rows.start, rows.stop))
        return original(self, rows, out)

    monkeypatch.setattr(Level, "read_rows", counted)
    window = RowWindow(image)
    expected = np.stack([_pixels(0), _pixels(1)])
    for start, stop in [(0, 30), (3, 900), (3, 700), (600, 1300), (1023, 1024), (1024, 1024), (1900, 2301)]:
        np.testing.assert_array_equal(window.rows(start, stop), expected[:, start:stop])
        assert window._buffer.shape[1] <= 2.25 * pyramid.CHUNK_PX
    rows = [row for start, stop in read for row in range(start, stop)]
    assert len(rows) == len(set(rows))
    with pytest.raises(ValueError, match="held from"):
        window.rows(0, 10)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match="no such image"):
        RowWindow(tmp_path / "nothing")


def test_an_image_without_channels_is_none(tmp_path):
    folder = _write(tmp_path / "i")
    about = json.loads((folder / "0/zarr.json").read_text())
    (folder / "0/zarr.json").write_text(json.dumps({**about, "shape": [0, *about["shape"][1:]]}))
    with pytest.raises(InputError, match="0 channels of"):
        Level(folder)


def test_a_lost_file_is_not_read_as_black(tmp_path):
    folder = _write(tmp_path / "i")
    next(folder.glob("0/c/1/1/*")).unlink()
    with pytest.raises(InputError, match="1 of 6 files of level 0 are missing"):
        RowWindow(folder)


def test_an_empty_file_is_not_read_as_black(tmp_path):
    folder = _write(tmp_path / "i")
    file = next(folder.glob("1/c/*/*/*"))
    file.unlink()
    file.touch()
    assert Level(folder, 0).shape[0] == 2
    with pytest.raises(InputError, match="files of level 1 are missing"):
        Level(folder, 1)


def test_a_damaged_chunk_is_named(tmp_path):
    folder = _write(tmp_path / "i")
    file = next(folder.glob("0/c/0/0/*"))
    data = bytearray(file.read_bytes())
    data[5000:5100] = bytes(100)
    file.write_bytes(data)
    with pytest.raises(InputError, match="rows 0 to 1024 of level 0 are damaged"):
        RowWindow(folder).rows(0, 1000)


def test_a_tiny_image_has_one_level(tmp_path):
    arrays = create(tmp_path / "i", Description("s", ["DAPI"], (40, 30), 0.5))
    writer = LevelWriter(arrays, 0)
    writer.append(_pixels(shape=(40, 30)))
    writer.finish()
    assert len(arrays) == 1
    np.testing.assert_array_equal(RowWindow(tmp_path / "i").rows(0, 40)[0], _pixels(shape=(40, 30)))


def test_shards_hold_whole_chunks():
    for shape in [(1, 1), (512, 512), (513, 9000), (5000, 30_000)]:
        rows, columns = pyramid._shard_shape(shape)
        chunk = pyramid._chunk_shape(shape)
        assert rows % chunk[0] == 0
        assert columns % chunk[1] == 0
        assert columns <= pyramid._SHARD_COLUMNS
        assert rows <= pyramid.BAND_ROWS
