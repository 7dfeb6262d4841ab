from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from mistline.config.image import Image
from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.mist.project import project
from mistline.xenium.morphology import Source

MINMAX = Image(window="minmax")


def _source(path: Path, planes: np.ndarray, channel: str = "DAPI", **options) -> Source:
    options = {"tile": (256, 256), "compression": "zlib"} | options
    tifffile.imwrite(path, planes, photometric="minisblack", **options)
    pages = tuple(range(len(planes)))
    return Source(channel, "z-stack", path, pages, planes.shape[1:], str(planes.dtype), 0.2125)


def _planes(shape=(3, 1300, 900), seed: int = 0, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 250 if dtype == np.uint8 else 5000, shape).astype(dtype)


def _project(found: list[Source], folder: Path, settings: Image = MINMAX, threads: int = 1) -> dict:
    return project(found, settings, slide="s1", pixel_size_um=0.2125, folder=folder, threads=threads)


def _published(planes: np.ndarray) -> np.ndarray:
    image = planes.max(axis=0).astype(np.float64)
    return ((image - image.min()) / (image.max() - image.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_minmax_gives_the_published_bytes(tmp_path, dtype):
    planes = _planes(dtype=dtype)
    summary = _project([_source(tmp_path / "z.tif", planes)], tmp_path / "out")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "out", path="0", mode="r")[0], _published(planes))
    assert summary == {
        "slide": "s1",
        "channels": ["DAPI"],
        "source": {"DAPI": "z-stack"},
        "shape_px": [1300, 900],
        "pixel_size_um": 0.2125,
        "window": {"DAPI": [float(planes.max(0).min()), float(planes.max(0).max())]},
        "window_mode": "minmax",
        "levels": 3,
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0", "1", "2", "zarr.json"]


def test_the_window_is_the_percentiles_of_the_projection(tmp_path):
    planes = _planes()
    summary = _project([_source(tmp_path / "z.tif", planes)], tmp_path / "out", Image())
    assert summary["window"]["DAPI"] == pytest.approx(np.percentile(planes.max(0), [0.1, 99.9]).tolist())


def test_each_channel_has_its_own_pixels_and_window(tmp_path):
    stains = {"DAPI": _planes((2, 600, 700), 1), "18S": _planes((1, 600, 700), 2) // 10}
    found = [_source(tmp_path / f"{name}.tif", planes, name) for name, planes in stains.items()]
    summary = _project(found, tmp_path / "out")
    image = zarr.open_array(tmp_path / "out", path="0", mode="r")
    for index, (name, planes) in enumerate(stains.items()):
        np.testing.assert_array_equal(image[index], _published(planes))
        assert summary["window"][name][1] == planes.max()


def test_bytes_do_not_depend_on_the_threads(tmp_path):
    found = [_source(tmp_path / "z.tif", _planes((2, 600, 700)), compression="jpeg2000")]
    for threads in (1, 2, 5):
        _project(found, tmp_path / str(threads), threads=threads)
    assert len({hash_file(tmp_path / str(threads)) for threads in (1, 2, 5)}) == 1


def test_a_tenth_of_the_intensity_gives_nearly_the_same_image(tmp_path):
    planes = _planes() * 10
    bright = [_source(tmp_path / "a.tif", planes)]
    dim = [_source(tmp_path / "b.tif", planes // 10)]
    _project(bright, tmp_path / "bright", Image())
    _project(dim, tmp_path / "dim", Image())
    images = [zarr.open_array(tmp_path / name, path="0", mode="r")[0].astype(int) for name in ("bright", "dim")]
    assert np.abs(images[0] - images[1]).max() <= 1


def test_a_constant_image_is_refused_and_named(tmp_path):
    with pytest.raises(InputError, match=r"z\.tif, channel DAPI: every pixel has the value 9"):
        _project([_source(tmp_path / "z.tif", np.full((2, 300, 300), 9, np.uint16))], tmp_path / "out")


def _peak(found: list[Source], folder: Path) -> int:
    tracemalloc.start()
    try:
        _project(found, folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_height_or_planes(tmp_path):
    short = _planes((1, 2048, 1024))
    tall = np.tile(short, (1, 10, 1))
    deep = np.tile(short, (8, 1, 1))
    sources = [_source(tmp_path / f"{i}.tif", planes, compression=None) for i, planes in enumerate((short, tall, deep))]
    del tall, deep
    _project([sources[0]], tmp_path / "warm")
    base, taller, deeper = (_peak([source], tmp_path / f"out{i}") for i, source in enumerate(sources))
    assert taller < 1.2 * base
    assert deeper < 1.2 * base
