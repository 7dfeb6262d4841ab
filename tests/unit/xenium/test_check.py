from __future__ import annotations

import numpy as np
import pytest
import tifffile

from mistline.core.errors import InputError
from mistline.xenium import check as module
from mistline.xenium.check import check, require_whole_tiff
from tests.unit.xenium.conftest import write_image


def test_pixels_after_the_headers_are_missed(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_image(path, np.random.default_rng(0).integers(0, 9999, (128, 128)).astype(np.uint16), 0.5)
    require_whole_tiff(path)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        end = max(np.add(page.dataoffsets, page.databytecounts).max() for page in file.pages[0].aspage().pages)
    path.write_bytes(whole[: end - 1])
    with pytest.raises(InputError, match=rf"a.ome.tif: truncated: its pixels reach to byte {end}, the file ends at"):
        require_whole_tiff(path)


def test_image_without_pyramid(tmp_path, bundle, monkeypatch):
    root = bundle.write(tmp_path / "b")
    (root / "morphology_focus" / "morphology_focus_0000.ome.tif").unlink()
    tifffile.imwrite(root / "morphology.ome.tif", bundle.image, tile=(64, 64))
    told = [problem["what"] for problem in check(root, ["DAPI"])["problems"]]
    assert told == ["the OME-XML of DAPI states no pixel size: it could not be compared", *told[1:]]
    assert not any("orientation" in what for what in told)
    monkeypatch.setattr(module, "_MAX_WHOLE_READ_PX", 100)
    told = [problem["what"] for problem in check(root, ["DAPI"])["problems"]]
    assert "morphology.ome.tif has no pyramid: the orientation of the tables was not checked" in told
