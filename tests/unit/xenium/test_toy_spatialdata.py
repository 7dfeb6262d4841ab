"""The check that toy bundles are faithful: a reader of the real ones, at its defaults, reads them all."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from mistline.xenium.toy import LAYOUTS, ToySlide, write_bundle

spatialdata_io = pytest.importorskip("spatialdata_io", reason="needs the viewer extra")
_OURS_TO_SILENCE = ("does not match", "may be incorrect", "Could not parse", "not supported for this Xenium")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spatialdata_io_reads_the_bundle(tmp_path: Path, layout: str) -> None:
    slide = ToySlide(n_cells=60, layout=layout, n_planes=2)
    truth = write_bundle(tmp_path / "bundle", slide)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = spatialdata_io.xenium(tmp_path / "bundle")
    assert not [str(item.message) for item in said if any(part in str(item.message) for part in _OURS_TO_SILENCE)]

    table, cells, nuclei = data["table"], data["cell_boundaries"], data["nucleus_boundaries"]
    ids = table.obs["cell_id"].astype(str).tolist()
    assert cells.index.astype(str).tolist() == ids
    np.testing.assert_allclose(cells.geometry.area, table.obs["cell_area"], rtol=1e-4)
    assert table.shape == (slide.n_cells, slide.n_genes)
    assert (np.asarray(table.X.sum(axis=1)).ravel() == table.obs["transcript_counts"]).all()
    assert len(nuclei) == (slide.n_cells if layout in ("1.0", "1.3") else table.obs["nucleus_count"].sum())
    if truth["multinucleate_cell"]:
        assert (nuclei["cell_id"] == truth["multinucleate_cell"]).sum() == 2

    focus = data["morphology_focus"]["scale0"]["image"]
    assert focus.shape == (len(slide.stains), *slide.image_shape)
    labels = np.asarray(
        data["cell_labels"]["scale0"]["image"] if "scale0" in data["cell_labels"] else data["cell_labels"]
    )
    assert labels.shape == slide.image_shape
    _labels_lie_where_the_polygons_are(labels, cells, slide)


def _labels_lie_where_the_polygons_are(labels: np.ndarray, cells: object, slide: ToySlide) -> None:
    """The raster label of row n is n + 1, at the polygon's centre."""
    centres = np.stack([cells.geometry.centroid.y, cells.geometry.centroid.x], axis=1) / slide.pixel_size_um
    rows, cols = centres.astype(int).T
    assert (labels[rows, cols] == np.arange(1, len(centres) + 1)).all()
