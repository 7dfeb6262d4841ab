"""The files that say where an H&E lies: what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.xenium.alignment import read_alignment

# As published by 10x Genomics in its article on converting coordinates; it says where the H&E's corner goes.
PUBLISHED = """0.011071028838929093,1.2895790134339569,807.9788953065927
-1.2895790134339569,0.011071028838929093,73097.655174759
0,0,1
"""
TRUTH = np.array([[-0.07, -1.287, 1111.1], [1.287, -0.07, -86.1]])


def write(folder: Path, text: str) -> Path:
    path = folder / "an alignment.csv"
    path.write_text(text)
    return path


def keypoints(on_he: np.ndarray, noise: np.ndarray | float = 0.0, header: str = "fixedX,fixedY,alignmentX,alignmentY"):
    on_dapi = on_he @ TRUTH[:, :2].T + TRUTH[:, 2] + noise
    rows = [",".join(f"{value:.6f}" for value in row) for row in np.hstack([on_dapi, on_he])]
    return "\n".join([header, *rows]) + "\n"


def spread(n: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, [4000, 3000], (n, 2))


def test_the_matrix_takes_the_h_and_e_to_dapi_as_10x_computes_it(tmp_path):
    found = read_alignment(write(tmp_path, PUBLISHED))
    assert found.kind == "matrix"
    assert found.matrix @ (0, 0, 1) == pytest.approx([807.9788953065927, 73097.655174759, 1])
    assert (found.matrix @ (1000, 0, 1))[1] == pytest.approx(73097.655174759 - 1289.5790134339569)
    assert found.scale * 0.2125 == pytest.approx(0.274, abs=1e-3)


def test_two_rows_are_an_affine(tmp_path):
    found = read_alignment(write(tmp_path, "\ufeff" + "\n".join(PUBLISHED.splitlines()[:2])))
    assert found.kind == "affine"
    np.testing.assert_array_equal(found.matrix, read_alignment(write(tmp_path, PUBLISHED)).matrix)


@pytest.mark.parametrize("header", ["fixedX,fixedY,alignmentX,alignmentY", "FixedX, fixedY ,alignmentX,alignmentY"])
def test_keypoints_are_fitted_whatever_the_file_is_called(tmp_path, header):
    path = tmp_path / "slide_he_imagealignment.csv"
    path.write_text(keypoints(spread(8), header=header))
    found = read_alignment(path)
    assert found.kind == "keypoints"
    np.testing.assert_allclose(found.matrix[:2], TRUTH, atol=1e-4)
    assert found.landmarks is not None
    assert found.landmarks.error_px == pytest.approx(0, abs=1e-4)


def test_columns_count_by_name(tmp_path):
    rows = [line.split(",") for line in keypoints(spread(6)).splitlines()]
    turned = "\n".join(",".join([row[2], row[0], row[3], row[1]]) for row in rows)
    np.testing.assert_allclose(read_alignment(write(tmp_path, turned)).matrix[:2], TRUTH, atol=1e-4)


def test_the_landmarks_error_is_that_of_one_landmark(tmp_path):
    noise = np.random.default_rng(0).normal(0, 12, (400, 2))
    found = read_alignment(write(tmp_path, keypoints(spread(400), noise))).landmarks
    assert found is not None
    assert found.error_px == pytest.approx(12, rel=0.1)  # not smaller for the parameters that were fitted
    few = [
        read_alignment(write(tmp_path, keypoints(spread(5), noise[start : start + 5]))).landmarks
        for start in range(0, 400, 5)
    ]
    assert np.sqrt(np.mean([item.error_px**2 for item in few])) == pytest.approx(12, rel=0.15)


def test_the_worst_landmark_is_named(tmp_path):
    noise = np.zeros((9, 2))
    noise[5] = 60, -80
    found = read_alignment(write(tmp_path, keypoints(spread(9), noise))).landmarks
    assert found is not None
    assert found.worst == 6
    assert 50 < found.largest_px < 100


def test_three_landmarks_check_nothing(tmp_path):
    found = read_alignment(write(tmp_path, keypoints(spread(3), 100.0)))
    assert found.landmarks is not None
    assert found.landmarks.error_px is None


def transposed() -> str:
    values = np.loadtxt(PUBLISHED.splitlines(), delimiter=",").T
    return "\n".join(",".join(f"{value!r}" for value in row) for row in values.tolist())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (transposed(), "its last row is 807.979, 73097.7, 1, not 0, 0, 1; the matrix is transposed"),
        ("1,0,5\n0,1,0\n0.001,0,1\n", "its last row is 0.001, 0, 1, not 0, 0, 1; export the matrix"),
        ("1,0,0\n", "1 rows of 3 numbers are neither a 3 x 3 matrix nor a 2 x 3 affine"),
        ("1,0\n0,1\n", "2 rows of 2 numbers are neither"),
        ("1,0,0\n0,1\n", "neither numbers alone nor the columns fixedX"),
        ("a,b,c\n1,0,0\n0,1,0\n", "neither numbers alone nor the columns fixedX"),
        ("1,0,0\n0,nan,0\n0,0,1\n", "a number is missing or infinite"),
        ("1,2,0\n2,4,0\n0,0,1\n", "it stretches the image by 5 along one axis and 0 along the other"),
        ("\n", "it is empty"),
        (keypoints(spread(2)), "2 landmarks do not fix an affine"),
        (keypoints(np.array([[0, 0], [10, 10], [20, 20], [30, 30.0]])), "its landmarks lie on a line"),
        ("fixedX,fixedY,alignmentX,alignmentY\n1,2,3\n", "a row has too few fields"),
        ("fixedX,fixedY,alignmentX,alignmentY\n", "0 landmarks do not fix an affine"),
    ],
)
def test_what_is_no_alignment_is_said(tmp_path, text, sentence):
    with pytest.raises(InputError) as raised:
        read_alignment(write(tmp_path, text))
    assert sentence in str(raised.value)
    assert "an alignment.csv" in str(raised.value)


def test_a_missing_or_binary_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file; correct he_alignment"):
        read_alignment(tmp_path / "absent.csv")
    path = tmp_path / "he.tif"
    path.write_bytes(b"II*\0\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a csv"):
        read_alignment(path)
