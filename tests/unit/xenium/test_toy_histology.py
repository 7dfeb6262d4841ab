"""The toy's H&E: deterministic, in the form of real ones, and truly where its matrix says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mistline.core.hashing import hash_file
from mistline.xenium.alignment import read_alignment
from mistline.xenium.histology import open_histology
from mistline.xenium.toy import ToySlide, write_he
from mistline.xenium.toy.cells import Tissue

SLIDE = ToySlide(name="toy", layout="3.0", n_cells=120, n_planes=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hé toy")
    write_he(folder / "he" / "he.ome.tif", folder / "he.csv", SLIDE)
    return folder


def test_the_same_slide_is_the_same_bytes(written, tmp_path):
    truth = write_he(tmp_path / "he.ome.tif", tmp_path / "he.csv", SLIDE)
    assert hash_file(tmp_path / "he.ome.tif") == hash_file(written / "he/he.ome.tif")
    assert (tmp_path / "he.csv").read_bytes() == (written / "he.csv").read_bytes()
    np.testing.assert_array_equal(truth["matrix"], read_alignment(tmp_path / "he.csv").matrix)


def test_it_is_a_tiled_pyramid_that_knows_its_pixel_size(written):
    with open_histology(written / "he/he.ome.tif", written) as he:
        assert len(he.levels) >= 2
        assert he.levels[0].page.is_tiled
        assert he.pixel_size_um == 0.2738
        stated = read_alignment(written / "he.csv").scale * SLIDE.pixel_size_um
        assert stated == pytest.approx(he.pixel_size_um, rel=1e-4)


def test_nuclei_are_dark_and_blue_where_the_matrix_puts_them(written):
    pixels = tifffile.imread(written / "he/he.ome.tif", key=0).astype(int)
    back = np.linalg.inv(read_alignment(written / "he.csv").matrix)
    tissue = Tissue(SLIDE)
    blocks = [(row, col) for row in range(SLIDE.lattice.blocks[0]) for col in range(SLIDE.lattice.blocks[1])]
    centres = np.concatenate([tissue.cells(block).nuclei.centre_um for block in blocks])
    on_he = centres / SLIDE.pixel_size_um @ back[:2, :2].T + back[:2, 2]
    column, row = np.floor(on_he).astype(int).T
    red, _, blue = pixels[row, column].T
    assert (red < 200).mean() > 0.98
    assert (blue > red + 20).mean() > 0.98
    far = pixels[(row + 400) % len(pixels), (column + 300) % pixels.shape[1], 0]
    assert (far < 200).mean() < 0.4
