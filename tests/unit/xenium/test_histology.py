"""Windows of an H&E in every form it comes in, and what is no H&E."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from mistline.core.errors import InputError
from mistline.xenium import histology
from mistline.xenium.histology import open_histology

SHAPE = (300, 410)
FORMS = {
    "tiled": {"tile": (64, 64)},
    "tiled, wide tiles, deflate": {"tile": (64, 128), "compression": "zlib"},
    "jpeg 2000": {"tile": (64, 64), "compression": "jpeg2000"},
    "strips": {"rowsperstrip": 7},
    "compressed strips": {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
    "one compressed strip": {"rowsperstrip": SHAPE[0], "compression": "lzw"},
    "planes": {"planarconfig": "separate"},
    "planes in tiles": {"planarconfig": "separate", "tile": (64, 64), "compression": "zlib"},
    "planes in compressed strips": {"planarconfig": "separate", "rowsperstrip": 50, "compression": "zlib"},
}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def write(path: Path, pixels: np.ndarray, levels: int = 1, *, ome: bool = False, **form: Any) -> Path:
    with tifffile.TiffWriter(path, ome=ome) as writer:
        for level in range(levels):
            shown = pixels[:: 2**level, :: 2**level]
            planar = form.get("planarconfig") == "separate"
            writer.write(
                np.moveaxis(shown, 2, 0) if planar else shown, photometric="rgb", subfiletype=1 if level else 0,
                subifds=None if level else levels - 1, **form,
            )  # fmt: skip
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_window_of_any_form_and_level_is_its_pixels(tmp_path, pixels, form):
    path = write(tmp_path / "a slide.tif", pixels, levels=2, **FORMS[form])
    with open_histology(path, tmp_path, threads=2) as he:
        assert [level.shape_px for level in he.levels] == [SHAPE, (150, 205)]
        assert he.levels[1].per_px == (2, 2)
        for level, shown in enumerate((pixels, pixels[::2, ::2])):
            for rows, columns in (
                ((0, 1), (0, 1)),
                ((33, 141), (60, 201)),
                ((0, 150), (0, 205)),
                ((149, 150), (7, 205)),
            ):
                expected = shown[slice(*rows), slice(*columns)]
                np.testing.assert_array_equal(he.read(level, rows, columns), expected)
    assert [item.name for item in tmp_path.iterdir()] == ["a slide.tif"]


def test_jpeg_tiles_are_read_in_rgb(tmp_path, pixels):
    path = write(tmp_path / "he.tif", pixels, tile=(64, 64), compression="jpeg", compressionargs={"level": 98})
    with open_histology(path, tmp_path) as he:
        found = he.read(0, (0, 300), (0, 410)).astype(int)
    assert np.abs(found - pixels).mean() < 4  # chroma is stored at half the resolution


def test_a_pyramid_of_separate_pages_counts_and_a_label_does_not(tmp_path, pixels):
    path = tmp_path / "he.svs.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, photometric="rgb", tile=(64, 64))
        writer.write(pixels[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(pixels[:100, :50], photometric="rgb", subfiletype=1)  # a picture of the slide's label
    with open_histology(path, tmp_path) as he:
        assert [level.shape_px for level in he.levels] == [SHAPE, (75, 103)]


def test_an_ome_tiff_says_its_pixel_size(tmp_path, pixels):
    path = tmp_path / "he.ome.tif"
    size = {"PhysicalSizeX": 0.2738, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.2738, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **size})
    with open_histology(path, tmp_path) as he:
        assert he.pixel_size_um == 0.2738


def test_each_tile_is_decoded_once_as_long_as_it_is_held(tmp_path, pixels, monkeypatch):
    path = write(tmp_path / "he.tif", pixels, tile=(64, 64), compression="zlib")
    windows = [
        ((top, min(top + 50, 300)), (left, min(left + 50, 410))) for top in range(0, 300, 50) for left in (0, 200)
    ]
    with open_histology(path, tmp_path) as he:
        for rows, columns in windows:
            he.read(0, rows, columns)
        assert he.n_decoded == 5 * 2  # tile rows; tile columns 0 and 3
    monkeypatch.setattr(histology, "_CACHE_BYTES", 2 * 64 * 64 * 3)
    with open_histology(path, tmp_path) as he:
        for rows, columns in windows:
            found = he.read(0, rows, columns)
            np.testing.assert_array_equal(found, pixels[slice(*rows), slice(*columns)])
            assert he._readers[0]._bytes <= 3 * 64 * 64 * 3
        assert he.n_decoded > 10


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (np.zeros((20, 30), np.uint8), {}, "has red, green and blue, not 1 sample(s) of MINISBLACK along YX"),
        (np.zeros((20, 30, 4), np.uint8), {"photometric": "rgb"}, "not 4 sample(s) of RGB along YXS"),
        (np.zeros((20, 30, 3), np.uint16), {"photometric": "rgb"}, "pixels of type uint16, not uint8"),
        (np.zeros((3, 20, 30), np.uint8), {"photometric": "minisblack"}, "not 1 sample(s) of MINISBLACK along YX"),
    ],
)
def test_what_is_no_h_and_e_is_said(tmp_path, image, options, sentence):
    path = tmp_path / "he.tif"
    tifffile.imwrite(path, image, **options)
    with pytest.raises(InputError) as raised, open_histology(path, tmp_path):
        pass
    assert sentence in str(raised.value)
    assert "save it as 8-bit RGB" in str(raised.value)


def test_missing_truncated_and_damaged_files_are_one_sentence(tmp_path, pixels):
    with pytest.raises(InputError, match="no such file; correct he_image"), open_histology(tmp_path / "x", tmp_path):
        pass
    path = write(tmp_path / "he.tif", pixels, tile=(64, 64), compression="zlib")
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[9]
    path.write_bytes(data[: offset + 30] + bytes(60) + data[offset + 90 :])
    with open_histology(path, tmp_path) as he:
        he.read(0, (0, 64), (0, 410))
        with pytest.raises(InputError, match=r"he\.tif, level of 300 x 410 px, tile 9: the tile is corrupt"):
            he.read(0, (64, 128), (0, 410))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"he\.tif"), open_histology(path, tmp_path):
        pass
