from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.spots.reading import read_table
from tests.unit.spots.written import GENES, write_visium

DLPFC = Path(__file__).parents[4] / "shared/data/visium/dlpfc"


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_a_folder(tmp_path, header, flat):
    found = read_table(write_visium(tmp_path / "v", header=header, flat=flat), "counts", None)
    assert (found.kind, len(found.cell_ids), found.problems) == ("visium", 256, ())
    assert found.genes.ids == GENES
    assert found.genes.symbols[1] == "G1"
    assert found.in_tissue.tolist() == [False] + [True] * 255
    assert found.has_row.tolist() == [False] + [True] * 255
    assert found.genes.matrix[1].sum() > 0
    assert found.places.um_per_unit == pytest.approx(100 / 137, rel=1e-3)
    neighbour = np.linalg.norm(found.places.xy_um[1] - found.places.xy_um[0])
    assert neighbour == pytest.approx(100, abs=1)


def test_the_run_s_folder_and_a_prefixed_matrix(tmp_path):
    outs = write_visium(tmp_path / "run/outs")
    (outs / "filtered_feature_bc_matrix.h5").rename(outs / "V1_brain_filtered_feature_bc_matrix.h5")
    assert read_table(tmp_path / "run", "counts", None).genes.ids == GENES


def test_positions_alone(tmp_path):
    found = read_table(write_visium(tmp_path / "v", matrix=False), "counts", None)
    assert found.genes.matrix.shape == (256, 0)
    assert found.has_row.all()
    assert "no gene" in found.problems[0]["what"]


def test_microns_per_pixel_come_before_the_array(tmp_path):
    folder = write_visium(tmp_path / "v", factors={"microns_per_pixel": 0.73})
    assert read_table(folder, "counts", None).places.um_per_unit == 0.73


def test_other_values_than_counts_are_refused(tmp_path):
    with pytest.raises(InputError, match="a Visium folder holds counts"):
        read_table(write_visium(tmp_path / "v"), "log", None)


def test_what_does_not_fit_is_refused(tmp_path):
    folder = write_visium(tmp_path / "a", barcodes=["AAAC0001-1", "GGGG-1"])
    with pytest.raises(InputError, match=r"1 barcodes of filtered_feature_bc_matrix\.h5 have no position, such as 'GG"):
        read_table(folder, "counts", None)
    positions = pd.read_csv(write_visium(tmp_path / "b", matrix=False) / "spatial/tissue_positions.csv")
    broken = positions.astype({"array_row": object})
    broken.loc[7, "array_row"] = "x"
    with pytest.raises(InputError, match="1 rows lack a number, such as that of AAAC0007-1"):
        read_table(write_visium(tmp_path / "c", positions=broken), "counts", None)
    with pytest.raises(InputError, match="1 cell ids occur more than once"):
        read_table(write_visium(tmp_path / "d", positions=positions.iloc[[*range(256), 5]]), "counts", None)
    with pytest.raises(InputError, match="no column in_tissue"):
        read_table(write_visium(tmp_path / "e", positions=positions.drop(columns="in_tissue")), "counts", None)


def test_a_matrix_of_text_files_is_not_overlooked(tmp_path):
    folder = write_visium(tmp_path / "v", matrix=False)
    (folder / "filtered_feature_bc_matrix").mkdir()
    with pytest.raises(InputError, match="as a folder of text files"):
        read_table(folder, "counts", None)


@pytest.mark.skipif(not DLPFC.is_dir(), reason="needs the DLPFC positions")
def test_a_real_slice_covers_the_capture_area():
    found = read_table(DLPFC / "151507", "counts", None)
    width_um, height_um = np.ptp(found.places.xy_um, axis=0)
    assert (int(found.in_tissue.sum()), len(found.cell_ids)) == (4226, 4992)
    assert 6300 < width_um < 6800
    assert 6300 < height_um < 6800


@pytest.mark.parametrize("value", [0, -1, "89", None, 1e300, [89]])
def test_a_scale_factor_is_a_number_of_a_size(value, tmp_path):
    folder = write_visium(tmp_path / "v", factors={"microns_per_pixel": value})
    with pytest.raises(InputError, match="the scale factor microns_per_pixel is"):
        read_table(folder, "counts", None)


def test_positions_with_a_field_too_many_or_no_number(tmp_path):
    path = write_visium(tmp_path / "v", matrix=False) / "spatial/tissue_positions.csv"
    text = path.read_text()
    path.write_text(text.replace("\n", ",1\n").replace(",1\n", "\n", 1))
    with pytest.raises(InputError, match="its rows have more fields than there are columns"):
        read_table(tmp_path / "v", "counts", None)
    path.write_text(text.replace("AAAC0003-1,1,", "AAAC0003-1,1e999,"))
    with pytest.raises(InputError, match="1 rows lack a number, such as that of AAAC0003-1"):
        read_table(tmp_path / "v", "counts", None)
