"""How an H&E image lies on the DAPI image: the csv that Xenium Explorer writes, or an affine of one's own.

What the files mean was looked up, since their direction cannot be seen in them:

- The matrix (`*_imagealignment.csv` or `matrix.csv`: three rows of three numbers, no header) takes a point (x, y) of
  the H&E in its full-resolution pixels to full-resolution pixels of the DAPI image: 10x Genomics, "How can I convert
  coordinates between H&E image and Xenium data?", knowledge base article 35386990499853, which computes x' = m00 x +
  m01 y + m02. spatialdata-io uses it so, as an affine from (x, y) to (x, y).
- The keypoints (columns fixedX, fixedY, alignmentX, alignmentY) are pairs of landmarks: "fixed" in pixels of the
  DAPI image, "alignment" in pixels of the image that is to be aligned. Some public data sets carry them under the
  name of the matrix, so the content decides, never the name.

Points are measured from the top-left corner of the top-left pixel, as the tables' micrometres are. Whether Explorer
means the corner or the centre is not documented; they are at most half a pixel (0.1 um) apart.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError

KEYPOINTS = ("fixedx", "fixedy", "alignmentx", "alignmenty")
_LEAST_LANDMARKS = 3
_EXPORT = "export the matrix from Xenium Explorer, or write the 2 or 3 rows of three numbers yourself"

Kind = Literal["matrix", "affine", "keypoints"]


@dataclass(frozen=True)
class Landmarks:
    """How well pairs of landmarks agree with the affine that was fitted to them.

    Attributes:
        n: pairs.
        error_px: their error in pixels of the DAPI image: root of the residuals' sum of squares over 2 n - 6, the
            degrees of freedom that are left; None of three pairs, which any affine fits.
        largest_px: largest residual; None of three pairs.
        worst: number of the pair that has it, from 1 on; None of three pairs.
    """

    n: int
    error_px: float | None
    largest_px: float | None
    worst: int | None


@dataclass(frozen=True)
class Alignment:
    """Where the H&E lies.

    Attributes:
        matrix: [3, 3], takes (x, y, 1) of the H&E to (x, y, 1) of the DAPI image, in full-resolution pixels.
        kind: what the file held.
        landmarks: of keypoints alone.
    """

    matrix: NDArray[np.float64]
    kind: Kind
    landmarks: Landmarks | None = None

    @property
    def scale(self) -> float:
        """Pixels of the DAPI image a pixel of the H&E, the mean of its two axes."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))


def read_alignment(path: Path) -> Alignment:
    """Read a csv with a 3 x 3 matrix, a 2 x 3 affine or keypoints.

    Raises:
        InputError: it is none of them, or no image can lie so.
    """
    rows = _rows(path)
    header = [field.strip().casefold() for field in rows[0]]
    if set(KEYPOINTS) <= set(header):
        matrix, landmarks = _fit(path, *_pairs(path, header, rows[1:]))
        return Alignment(_checked(path, matrix), "keypoints", landmarks)
    values = _numbers(path, rows)
    if values.shape == (2, 3):
        return Alignment(_checked(path, np.vstack([values, [0, 0, 1]])), "affine")
    if values.shape != (3, 3):
        what = f"{len(values)} rows of {values.shape[1]} numbers are neither a 3 x 3 matrix nor a 2 x 3 affine"
        raise InputError(path, what, _EXPORT)
    return Alignment(_checked(path, values), "matrix")


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if any(field.strip() for field in row)]
    except FileNotFoundError:
        raise InputError(path, "no such file", "correct he_alignment in the slide sheet") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"not a csv ({error})", _EXPORT) from None
    if not rows:
        raise InputError(path, "it is empty", _EXPORT)
    return rows


def _numbers(path: Path, rows: list[list[str]]) -> NDArray[np.float64]:
    try:
        values = np.array([[float(field) for field in row] for row in rows])
    except ValueError:
        what = "neither numbers alone nor the columns fixedX, fixedY, alignmentX, alignmentY"
        raise InputError(path, what, _EXPORT) from None
    if not np.isfinite(values).all():
        raise InputError(path, "a number is missing or infinite", _EXPORT)
    return values


def _checked(path: Path, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Refuse what is no affine, or puts the image on a line or a point."""
    if not np.allclose(matrix[2], (0, 0, 1), rtol=0, atol=1e-9):
        last = ", ".join(f"{value:g}" for value in matrix[2])
        transposed = np.allclose(matrix[:, 2], (0, 0, 1), rtol=0, atol=1e-9)
        what = f"its last row is {last}, not 0, 0, 1" + ("; the matrix is transposed" if transposed else "")
        raise InputError(path, what, _EXPORT)
    stretch = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if stretch[1] < 1e-3 or stretch[0] > 1e3:
        what = f"it stretches the image by {stretch[0]:.3g} along one axis and {round(stretch[1], 4):g} along the other"
        raise InputError(path, what, "export it again: it takes H&E pixels to DAPI pixels, about 1 to 1")
    return matrix


def _pairs(path: Path, header: list[str], rows: list[list[str]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the landmarks [n, 2] on the H&E and on the DAPI image."""
    columns = [header.index(name) for name in KEYPOINTS]
    if any(len(row) <= max(columns) for row in rows):
        raise InputError(path, "a row has too few fields", "export the keypoints from Xenium Explorer again")
    values = _numbers(path, [[row[column] for column in columns] for row in rows]) if rows else np.zeros((0, 4))
    if len(values) < _LEAST_LANDMARKS:
        raise InputError(path, f"{len(values)} landmarks do not fix an affine", "set three or more, better six")
    return values[:, 2:], values[:, :2]


def _fit(path: Path, source: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[NDArray[np.float64], Landmarks]:
    """Fit the affine that takes `source` to `target` with the smallest sum of squares."""
    n, centre = len(source), source.mean(axis=0)
    spread = np.linalg.svd(source - centre, compute_uv=False)
    if spread[1] < 0.02 * spread[0] or spread[1] == 0:
        raise InputError(path, "its landmarks lie on a line", "set landmarks in different corners of the tissue")
    design = np.column_stack([source - centre, np.ones(n)])  # centred: the sums stay exact on large slides
    solution: NDArray[Any] = np.linalg.lstsq(design, target, rcond=None)[0]
    matrix = np.eye(3)
    matrix[:2, :2] = solution[:2].T
    matrix[:2, 2] = solution[2] - solution[:2].T @ centre
    if n == _LEAST_LANDMARKS:
        return matrix, Landmarks(n, None, None, None)
    residual = np.linalg.norm(design @ solution - target, axis=1)
    error = float(np.sqrt((residual**2).sum() / (2 * n - 6)))
    return matrix, Landmarks(n, error, float(residual.max()), int(residual.argmax()) + 1)
