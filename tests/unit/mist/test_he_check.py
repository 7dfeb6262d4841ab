"""Right alignments are accepted and wrong ones refused: on a synthetic slide, and on a crop of a public one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from mistline.core.errors import InputError
from mistline.mist.he import Registered, covered_cells
from mistline.mist.he_check import Fit, Nuclei, compare_readings, measure
from mistline.mist.he_verdict import MOST_OFFSET_UM, Subject, judge, require_covered
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.xenium.alignment import Alignment, Landmarks, read_alignment
from mistline.xenium.histology import open_histology
from mistline.xenium.toy import ToySlide, write_bundle, write_he

PIXEL_UM = 0.2125
CROP = Path(__file__).parents[3] / ".." / "shared" / "data" / "xenium" / "breast_rep1_crop_a"
# Found for this crop by laying its haematoxylin on its DAPI: all eight orientations, then the six numbers by simplex
# search. Its H&E is mirrored, and its pixels are 0.3647 um.
CROP_MATRIX = np.array([[1.717061, 0.010395, -3.977876], [0.007508, -1.715476, 762.815637], [0, 0, 1]])


@dataclass
class Case:
    """A slide with the H&E it has, and the matrix that is right."""

    image: Path
    he: Path
    matrix: np.ndarray
    shape_px: tuple[int, int]
    cells: pd.DataFrame
    cache: dict[str, Any] = field(default_factory=dict)

    def fit(self, matrix: np.ndarray, *, readings: bool = False) -> tuple[Fit | None, dict[str, Fit], np.ndarray]:
        yx_px = self.cells[["y_centroid", "x_centroid"]].to_numpy() / PIXEL_UM
        nuclei = Nuclei(self.image, 0, PIXEL_UM, yx_px)
        with open_histology(self.he, self.image.parent) as histology:
            registered = Registered(histology, matrix)
            found = measure(registered, nuclei, MOST_OFFSET_UM)
            boxes = pd.DataFrame(
                {f"{axis}_{end}_um": self.cells[f"{axis}_centroid"] for axis in "xy" for end in ("min", "max")}
            )
            covered = covered_cells(registered, boxes, self.shape_px, PIXEL_UM)
            others = compare_readings(registered, nuclei, PIXEL_UM, MOST_OFFSET_UM) if readings else {}
            self.cache["he_shape"], self.cache["he_um"] = histology.shape_px, histology.pixel_size_um
            return found, others, covered

    def judged(self, matrix: np.ndarray, *, readings: bool = False) -> list[str]:
        """Do what register_he does, other readings only on demand: they cost the most and decide nothing."""
        fit, others, covered = self.fit(matrix, readings=readings)
        subject = Subject("s1", PIXEL_UM, Alignment(matrix, "matrix"), self.cache["he_um"])
        warnings = judge(subject, fit, others)
        require_covered(subject, covered, 0.05, "")
        return warnings


def _dapi(folder: Path, pixels: np.ndarray) -> Path:
    low, high = np.percentile(pixels, (0.1, 99.9))
    scaled = (np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    arrays = create(folder / "image.ome.zarr", Description("s1", ["DAPI"], scaled.shape, PIXEL_UM))
    writer = LevelWriter(arrays, 0)
    writer.append(scaled)
    writer.finish()
    return folder / "image.ome.zarr"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("toy")
    slide = ToySlide(n_cells=250, n_planes=1, n_stains=1, aspect=0.75, transcripts=False)
    write_bundle(folder / "bundle", slide)
    write_he(folder / "he.ome.tif", folder / "he.csv", slide)
    pixels = tifffile.imread(folder / "bundle/morphology.ome.tif", key=0)
    matrix = read_alignment(folder / "he.csv").matrix
    cells = pd.read_parquet(folder / "bundle/cells.parquet")
    return Case(_dapi(folder, pixels), folder / "he.ome.tif", matrix, pixels.shape, cells)


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Case:
    if not CROP.is_dir():
        pytest.skip("needs ../shared/data/xenium/breast_rep1_crop_a")
    pixels = tifffile.imread(CROP / "morphology_mip.ome.tif", key=0)
    image = _dapi(tmp_path_factory.mktemp("crop"), pixels)
    return Case(image, CROP / "he_image_crop.tif", CROP_MATRIX, pixels.shape, pd.read_parquet(CROP / "cells.parquet"))


@pytest.fixture(params=["toy", "crop"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def moved(x_um: float, y_um: float) -> np.ndarray:
    return np.array([[1, 0, x_um / PIXEL_UM], [0, 1, y_um / PIXEL_UM], [0, 0, 1]])


def turned(case: Case, degrees: float, stretch: float = 1.0) -> np.ndarray:
    """Turn and stretch about the middle of the slide."""
    turn, centre = np.deg2rad(degrees), np.array(case.shape_px[::-1]) / 2
    matrix = np.eye(3)
    matrix[:2, :2] = stretch * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre
    return matrix


def test_the_right_matrix_fits_here_and_no_other_reading_does(case):
    fit, others, covered = case.fit(case.matrix, readings=True)
    assert fit is not None
    assert fit.is_clear
    assert fit.correlation == fit.best > 0.85
    assert fit.best > 2.5 * fit.elsewhere
    assert fit.offset_um == (0, 0)
    assert covered.all()
    assert len(others) >= 8
    assert not any(other.is_clear for other in others.values())
    assert max(other.best for other in others.values()) < fit.best / 2
    assert case.judged(case.matrix) == []


@pytest.mark.parametrize(("x_um", "y_um"), [(20, 0), (0, -20), (-6, 3), (12, 15)])
def test_a_shifted_matrix_is_refused_and_the_way_back_is_said(case, x_um, y_um):
    with pytest.raises(InputError) as raised:
        case.judged(moved(x_um, y_um) @ case.matrix)
    fit, _, _ = case.fit(moved(x_um, y_um) @ case.matrix)
    assert fit is not None
    assert fit.offset_um == pytest.approx((x_um, y_um), abs=0.5)
    assert f"fits the DAPI best {np.hypot(*fit.offset_um):.1f} um away (x {fit.offset_um[0]:+.1f}" in str(raised.value)
    back = [round(-value / PIXEL_UM) for value in fit.offset_um]
    assert f"add {back[0]:+d} and {back[1]:+d} to the last column" in str(raised.value)
    assert case.judged(moved(back[0] * PIXEL_UM, back[1] * PIXEL_UM) @ moved(x_um, y_um) @ case.matrix) == []


def test_a_small_shift_is_a_warning(case):
    assert case.judged(moved(3, 0) @ case.matrix) == ["the haematoxylin lies up to 3.0 um beside the DAPI"]


MISREAD = {
    "mirrored left to right": lambda m, h, w: m @ [[-1, 0, w], [0, 1, 0], [0, 0, 1]],
    "mirrored top to bottom": lambda m, h, w: m @ [[1, 0, 0], [0, -1, h], [0, 0, 1]],
    "turned by 180 degrees": lambda m, h, w: m @ [[-1, 0, w], [0, -1, h], [0, 0, 1]],
    "rows and columns of the H&E exchanged": lambda m, h, w: m @ [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
}


@pytest.mark.parametrize("how", MISREAD)
def test_a_matrix_of_the_image_in_another_orientation_is_refused_and_named(case, how):
    case.fit(case.matrix)
    with pytest.raises(InputError) as raised:
        case.judged(MISREAD[how](case.matrix, *case.cache["he_shape"]), readings=True)
    assert "fits the DAPI nowhere within" in str(raised.value)
    assert how in str(raised.value)
    assert "align the images again in Xenium Explorer" in str(raised.value)


@pytest.mark.parametrize(
    ("clockwise", "named"), [(True, "turned by 90 degrees anticlockwise"), (False, "turned by 90 degrees clockwise")]
)
def test_a_file_turned_after_it_was_aligned_is_named(toy, tmp_path, clockwise, named):
    pixels = tifffile.imread(toy.he, key=0)
    tifffile.imwrite(tmp_path / "he.tif", np.rot90(pixels, -1 if clockwise else 1), photometric="rgb")
    with pytest.raises(InputError) as raised:
        replace(toy, he=tmp_path / "he.tif").judged(toy.matrix, readings=True)
    assert f"read with the H&E {named} it does" in str(raised.value)


@pytest.mark.parametrize("wrong", [np.linalg.inv, lambda matrix: matrix * [[PIXEL_UM], [PIXEL_UM], [1]]])
def test_the_inverse_and_a_matrix_to_micrometres_are_refused(case, wrong):
    with pytest.raises(InputError, match=r"cells do not lie on the H&E|fits the DAPI nowhere"):
        case.judged(wrong(case.matrix))


def test_an_h_and_e_of_another_slide_is_refused(toy, tmp_path):
    other = ToySlide(name="another", n_cells=250, n_planes=1, aspect=0.75, transcripts=False)
    write_he(tmp_path / "he.ome.tif", tmp_path / "he.csv", other)
    with pytest.raises(InputError, match="fits the DAPI nowhere"):
        replace(toy, he=tmp_path / "he.ome.tif").judged(read_alignment(tmp_path / "he.csv").matrix)


def test_a_turn_shows_as_a_weaker_fit_on_a_small_slide(case):
    exact, slightly, more = (case.fit(turned(case, degrees) @ case.matrix)[0] for degrees in (0, 2, 8))
    assert exact.correlation > slightly.correlation + 0.05
    assert slightly.is_clear
    with pytest.raises(InputError, match="fits the DAPI"):
        case.judged(turned(case, 15) @ case.matrix)
    assert more is not None
    assert more.correlation < 0.5


def fit(**changes: Any) -> Fit:
    return replace(Fit(9, 900, 60.0, 0.8, 0.8, 0.1, (0.0, 0.0), 9, (0.3, 1.0), 0.0), **changes)


def subject(landmarks: Landmarks | None = None, he_pixel_size_um: float | None = None) -> Subject:
    matrix = np.diag([0.2738 / PIXEL_UM, 0.2738 / PIXEL_UM, 1])
    return Subject("s1", PIXEL_UM, Alignment(matrix, "keypoints", landmarks), he_pixel_size_um)


def test_a_matrix_that_is_right_in_the_middle_only_is_refused():
    wrong = fit(local_um=(4.4, 7.7), far_share=0.47, correlation=0.07, best=0.1, elsewhere=0.03)
    with pytest.raises(
        InputError, match=r"more than 5 um beside the DAPI in 47% of 9 places \(half of them 4.4 um or more"
    ):
        judge(subject(), wrong, {})
    assert judge(subject(), fit(local_um=(0.4, 6.0), far_share=0.1), {}) == [
        "the haematoxylin lies up to 6.0 um beside the DAPI"
    ]


def test_few_nuclei_are_no_proof_of_a_wrong_matrix():
    nothing = fit(correlation=0.1, best=0.3, elsewhere=0.29, n_clear=0, local_um=None)
    with pytest.raises(InputError, match="nowhere"):
        judge(subject(), nothing, {})
    few = judge(subject(), replace(nothing, n_nuclei=20), {})
    assert few == ["the alignment could not be confirmed: 20 nuclei are too few to tell a fit from chance"]


def test_landmarks_that_disagree_are_refused():
    with pytest.raises(
        InputError, match=r"its 8 landmarks disagree by 12.8 um \(number 3: 21.2 um\); set the landmarks"
    ):
        judge(subject(Landmarks(8, 60.0, 100.0, 3)), fit(), {})
    assert judge(subject(Landmarks(8, 30.0, 50.0, 3)), fit(), {}) == [
        "its 8 landmarks disagree by 6.4 um (number 3: 10.6 um)"
    ]
    assert judge(subject(Landmarks(8, 10.0, 20.0, 3)), fit(), {}) == []
    assert judge(subject(Landmarks(3, None, None, None)), fit(), {}) == [
        "3 landmarks fit any alignment: they are no check of it"
    ]


def test_another_pixel_size_than_the_file_says_is_a_warning():
    assert judge(subject(he_pixel_size_um=0.27), fit(), {}) == []
    assert judge(subject(he_pixel_size_um=0.137), fit(), {}) == [
        "the H&E's pixels are 0.2738 um by the alignment and 0.1370 um by its OME-XML"
    ]


def test_a_weak_fit_is_a_warning():
    assert "fit weakly (correlation 0.45)" in judge(subject(), fit(correlation=0.45, best=0.45), {})[0]


def test_an_h_and_e_of_a_part_is_refused():
    covered = np.arange(200) >= 12
    with pytest.raises(InputError, match="12 of 200 cells do not lie on the H&E; align"):
        require_covered(subject(), covered, 0.05, "")
    require_covered(subject(), covered, 0.06, "")
