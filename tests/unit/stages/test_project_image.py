from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from tests.unit.stages.images import Prepared, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("sl ïde"))


def test_the_image_is_the_maximum_over_z_in_its_window(prepared, tmp_path):
    summary = prepared.project(tmp_path, '{"window": "minmax"}')
    with tifffile.TiffFile(prepared.bundle / "morphology.ome.tif") as file:
        raw = np.max([page.asarray() for page in file.pages], axis=0).astype(np.float64)
    expected = ((raw - raw.min()) / (raw.max() - raw.min()) * 255).astype(np.uint8)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "image.ome.zarr", path="0", mode="r")[0], expected)
    assert summary["slide"] == "s1"
    assert summary["source"] == {"DAPI": "z-stack"}
    assert summary["window"] == {"DAPI": [raw.min(), raw.max()]}


def test_any_stain_is_a_channel(prepared, tmp_path):
    summary = prepared.project(tmp_path)
    assert summary["channels"] == ["DAPI", "18S"]
    assert summary["source"] == {"DAPI": "z-stack", "18S": "focus"}
    assert list(summary["window"]) == ["18S", "DAPI"]  # sorted by the file; the order is in `channels`
    assert zarr.open_array(tmp_path / "image.ome.zarr", path="0", mode="r").shape == (2, *prepared.slide.image_shape)


def test_the_same_bytes_for_any_number_of_threads(prepared, tmp_path):
    for threads in (1, 3):
        prepared.project(tmp_path / str(threads), threads=threads)
    assert hash_file(tmp_path / "1" / "image.ome.zarr") == hash_file(tmp_path / "3" / "image.ome.zarr")
    assert hash_file(tmp_path / "1" / "image.json") == hash_file(tmp_path / "3" / "image.json")


def test_both_outputs_know_what_made_them(prepared, tmp_path):
    prepared.project(tmp_path)
    for name in ("image.ome.zarr", "image.json"):
        made = json.loads((tmp_path / f"{name}.meta.json").read_text())
        assert made["stage"] == "project_image"
        assert {"check", "image[DAPI]", "image[18S]"} == set(made["inputs"])


def test_a_missing_channel_is_an_error(prepared, tmp_path):
    with pytest.raises(InputError, match="no channel 'CD3'; the bundle has DAPI"):
        prepared.project(tmp_path, '{"channels": ["CD3"]}')


def test_a_corrupt_tile_leaves_nothing(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "copy")
    damaged = Prepared(tmp_path / "copy", prepared.slide)
    image = damaged.bundle / "morphology.ome.tif"
    with tifffile.TiffFile(image) as file:
        offset = file.pages[1].dataoffsets[-1]
    data = bytearray(image.read_bytes())
    data[offset : offset + 100] = bytes(100)
    image.write_bytes(data)
    with pytest.raises(InputError, match=r"morphology\.ome\.tif, page 1, tile row \d, column \d: the tile is corrupt"):
        damaged.project(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_image_that_changed_since_the_check_is_refused(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "copy")
    changed = Prepared(tmp_path / "copy", prepared.slide)
    report = json.loads(changed.check.read_text())
    report["image"]["shape_px"] = [10, 20]
    changed.check.write_text(json.dumps(report))
    with pytest.raises(InputError, match="run check_bundle again"):
        changed.project(tmp_path / "out")
