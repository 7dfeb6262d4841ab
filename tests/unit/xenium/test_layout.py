from __future__ import annotations

import json
import re
import shutil

import pytest

from mistline.core.errors import InputError
from mistline.xenium.layout import detect
from tests.unit.xenium.conftest import LAYOUTS, make


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", ["xenium-9.9.9", "R&D", None])
def test_layout_is_decided_by_what_is_there(tmp_path, layout, version):
    bundle = make(layout)
    bundle.experiment["analysis_sw_version"] = version
    found = detect(bundle.write(tmp_path / "b"))
    assert found.name == layout
    assert found.zstack is not None
    assert (found.mip is not None) == layout.startswith("1")
    assert len(found.focus) == 1


@pytest.mark.parametrize(
    ("layout", "version", "expected"),
    [("4.0", "xenium-4.0.1", "4.0"), ("4.0", "R&D", "3.0"), ("2.0", "xenium-2.0.0", "2.0"), ("1.0", "R&D", "1.0")],
)
def test_version_string_breaks_the_tie_of_a_bundle_without_in_focus_images(tmp_path, layout, version, expected):
    bundle = make(layout)
    bundle.images = ("zstack",)
    bundle.experiment["analysis_sw_version"] = version
    assert detect(bundle.write(tmp_path / "b")).name == expected


def test_bytes_as_ids_are_no_obstacle(tmp_path):
    bundle = make("1.3")
    bundle.cells["cell_id"] = bundle.cells["cell_id"].str.encode("ascii")
    assert detect(bundle.write(tmp_path / "b")).name == "1.3"


def test_path_with_space_and_brackets(tmp_path):
    assert len(detect(make("4.0").write(tmp_path / "a [b] é")).focus) == 1


def test_unknown_layout_lists_found_looked_for_and_nearest(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    shutil.copy(root / "morphology.ome.tif", root / "morphology_mip.ome.tif")
    with pytest.raises(InputError) as caught:
        detect(root)
    text = str(caught.value)
    assert "unknown layout: found cell_boundaries.parquet, cell_feature_matrix.h5" in text
    assert "looked for morphology.ome.tif, morphology_mip.ome.tif, morphology_focus.ome.tif" in text
    assert "nearest known layout is 3.0, but there is a morphology_mip.ome.tif" in text


def test_bundle_without_any_image_is_unknown(tmp_path, bundle):
    bundle.images = ()
    with pytest.raises(InputError, match="there is no morphology image"):
        detect(bundle.write(tmp_path / "b"))


def test_missing_folder_names_url_and_config_key(tmp_path):
    with pytest.raises(InputError, match=r"no such bundle; .*url column.*bundle:"):
        detect(tmp_path / "nowhere")


def test_archive_must_be_unzipped(tmp_path):
    (tmp_path / "outs.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="a file, not a bundle's folder; unzip it"):
        detect(tmp_path / "outs.zip")


@pytest.mark.parametrize(
    "name", ["experiment.xenium", "cells.parquet", "cell_boundaries.parquet", "cell_feature_matrix.h5"]
)
def test_missing_file_is_named(tmp_path, bundle, name):
    root = bundle.write(tmp_path / "b")
    (root / name).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(name)}: no such file in the bundle; copy the whole output"):
        detect(root)


def test_folder_above_the_bundle_points_below(tmp_path, bundle):
    root = bundle.write(tmp_path / "run" / "outs")
    with pytest.raises(InputError, match=rf"not a Xenium bundle: .*point bundle: at {re.escape(str(root))}"):
        detect(root.parent)


def test_truncated_cells_table(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    path = root / "cells.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cells.parquet: truncated or not a parquet file \(.*\); copy it again"):
        detect(root)


def test_real_crops(real):
    for name, n_focus in (("breast_rep1_crop_a", 1), ("breast_rep1_crop_b", 0)):
        found = detect(real / name)
        assert found.name == "1.0"
        assert found.zstack is None
        assert found.mip is not None
        assert len(found.focus) == n_focus


def test_experiment_is_not_needed_to_hold_a_version(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    (root / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.5}))
    assert detect(root).name == "3.0"
