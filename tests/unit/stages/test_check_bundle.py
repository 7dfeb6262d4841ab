from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.stages.check_bundle import run
from tests.unit.xenium.conftest import LAYOUTS, REAL, Bundle, make, write_image

PANEL = {"payload": {"targets": [{"type": {"descriptor": "gene", "data": {"name": "GENE5", "id": "ENSG00000000777"}}}]}}


@pytest.fixture
def bundle() -> Bundle:
    return make()


def _check(root, tmp_path, **params):
    report = tmp_path / "out" / "bundle.json"
    text = json.dumps(params)
    run(bundle=root, slide="s", donor="d", tissue="t", disease="x", report=report, params=text)
    return json.loads(report.read_text())


def _refused(root, tmp_path, match, **params):
    with pytest.raises(InputError, match=match):
        _check(root, tmp_path, **params)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_report_of_every_layout(tmp_path, layout):
    bundle = make(layout)
    bundle.panel = PANEL
    found = _check(bundle.write(tmp_path / "b é"), tmp_path)
    assert found["layout"] == layout
    assert found["problems"] == []
    assert (found["slide"], found["donor"], found["tissue"], found["disease"]) == ("s", "d", "t", "x")
    assert (found["n_cells"], found["n_cells_announced"], found["pixel_size_um"]) == (48, 48, 0.5)
    assert found["image"] == {
        "shape_px": [240, 320],
        "dtype": "uint16",
        "channels": {"DAPI": {"kind": "z-stack", "file": "morphology.ome.tif", "n_planes": 2}},
    }
    assert found["panel"] == {
        "name": "Test panel",
        "n_genes": 4,
        "n_controls": {"Negative Control Probe": 1, "Unassigned Codeword": 1},
        "gene_ids": "ensembl",
    }
    assert found["files"]["gene_panel.json"] == len(json.dumps(PANEL))


def test_same_bytes_twice_and_no_absolute_path(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    _check(root, tmp_path)
    first = (tmp_path / "out" / "bundle.json").read_bytes()
    _check(root, tmp_path)
    assert (tmp_path / "out" / "bundle.json").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_what_a_reader_should_know_is_a_warning(tmp_path):
    bundle = make("1.3")
    bundle.images = ("mip",)
    bundle.experiment |= {"num_cells": 50, "analysis_sw_version": "xenium-2.0.0"}
    bundle.counts, bundle.barcodes = bundle.counts[:-1], bundle.barcodes[:-1]
    bundle.features["id"] = bundle.features["name"]
    root = bundle.write(tmp_path / "b")
    (root / "nucleus_boundaries.parquet").unlink()
    problems = _check(root, tmp_path)["problems"]
    assert {problem["level"] for problem in problems} == {"warning"}
    assert all(problem["remedy"] for problem in problems)
    told = " | ".join(problem["what"] for problem in problems)
    for what in (
        "the files are laid out as in 1.3, experiment.xenium names xenium-2.0.0",
        "no z-stack: DAPI is taken from the mip image",
        "no nucleus_boundaries.parquet",
        "experiment.xenium announces 50 cells, cells.parquet holds 48",
        "the feature matrix holds 47 cells, cells.parquet 48",
        "genes are known by symbol only",
    ):
        assert what in told


def test_channel_that_is_not_there(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    _refused(root, tmp_path, "no channel '18S'; the bundle has DAPI; correct image.channels", channels=["DAPI", "18S"])


def test_unknown_setting(tmp_path, bundle):
    with pytest.raises(ConfigError, match=r"image.channel: unknown key; did you mean channels"):
        _check(bundle.write(tmp_path / "b"), tmp_path, channel=["DAPI"])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cells.parquet", "truncated or not a parquet file"),
        ("cell_boundaries.parquet", "truncated or not a parquet file"),
        ("nucleus_boundaries.parquet", "truncated or not a parquet file"),
        ("cell_feature_matrix.h5", "truncated or not an HDF5 file"),
        ("experiment.xenium", "truncated or not JSON"),
        ("gene_panel.json", "truncated or not JSON"),
        ("morphology.ome.tif", "(truncated|.*the file ends)"),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_truncated_file(tmp_path, bundle, name, what, share):
    bundle.panel = PANEL
    path = bundle.write(tmp_path / "b") / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    _refused(path.parent, tmp_path, rf"{re.escape(name)}.*: {what}.*; (copy|download) it again")


def test_pixel_size_contradicts_the_image(tmp_path, bundle):
    bundle.ome_pixel_um = 0.5 * 1.006
    expected = r"morphology.*: its OME-XML says 0.503 um a pixel, experiment.xenium says 0.5 \(0.6% apart\)"
    _refused(bundle.write(tmp_path / "b"), tmp_path, expected)


def test_swapped_tables_on_a_square_slide(tmp_path, bundle):
    keep = bundle.cells["x_centroid"] < 115
    bundle.cells = bundle.cells[keep]
    bundle.image = bundle.image[:, :240]
    problems = _check(bundle.write(tmp_path / "right"), tmp_path)["problems"]
    assert not any("brighter" in problem["what"] for problem in problems)
    bundle.cells = bundle.cells.rename(columns={"x_centroid": "y_centroid", "y_centroid": "x_centroid"})
    expected = r"morphology.ome.tif: x and y look swapped: its nuclei lie under the centroids .* only when"
    _refused(bundle.write(tmp_path / "wrong"), tmp_path / "2", expected)


def test_transposed_image(tmp_path, bundle):
    bundle.image = np.ascontiguousarray(bundle.image.T)
    _refused(bundle.write(tmp_path / "b"), tmp_path, r"morphology.ome.tif: x and y look swapped")


def test_image_without_structure_is_inconclusive(tmp_path, bundle):
    bundle.image[:] = 100
    problems = _check(bundle.write(tmp_path / "b"), tmp_path)["problems"]
    assert any("not clearly brighter" in problem["what"] for problem in problems)


def test_channel_in_two_files(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    write_image(root / "morphology_focus" / "morphology_focus_0001.ome.tif", bundle.image, 0.5)
    _refused(root, tmp_path, r"morphology_focus_0001.ome.tif: channel DAPI is also in morphology_focus_0000")


def test_boundaries_without_rows(tmp_path, bundle):
    bundle.cell_boundaries = bundle.cell_boundaries[:0]
    _refused(bundle.write(tmp_path / "b"), tmp_path, r"cell_boundaries.parquet: the table holds no polygon")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real crops beside the repository (../shared) are missing")
@pytest.mark.parametrize(("name", "n_cells"), [("breast_rep1_crop_a", 122), ("breast_rep1_crop_b", 1120)])
def test_real_crops(tmp_path, name, n_cells):
    found = _check(REAL / name, tmp_path)
    assert (found["layout"], found["n_cells"], found["pixel_size_um"]) == ("1.0", n_cells, 0.2125)
    assert found["image"]["channels"]["DAPI"]["kind"] == "mip"
    assert not any("brighter" in problem["what"] for problem in found["problems"])
