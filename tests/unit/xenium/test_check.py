from __future__ import annotations

import tifffile

from mistline.xenium import check as module
from mistline.xenium.check import check


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
