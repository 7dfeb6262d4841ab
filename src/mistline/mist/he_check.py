"""Does the H&E lie where its matrix says? Its haematoxylin must fit the DAPI, here and nowhere else.

Both stain nuclei. In windows spread over the slide, a piece of the DAPI image is laid on the haematoxylin at every
offset within reach, and the correlation is taken; both are filtered to the size of nuclei first. Where the two
belong together there is one sharp peak, at no offset. A matrix that is shifted moves the peak, one that is slightly
turned or stretched moves it from window to window, and one that is mirrored, transposed or of another slide has
none.

The thresholds come from trials on synthetic slides and on a crop of 10x's breast data (pixels of 0.2125 um), each with
the right matrix and with eighteen wrong ones. Right ones had a correlation of 0.91 to 0.96, 3 to 6 times the highest
elsewhere, and of 0.35 to 0.42 when shifted by 3 um. Mirrored, turned, transposed and inverse ones had 0.02 to 0.38 at
best, 1.0 to 1.7 times the highest elsewhere, with 15 nuclei or more. A slide of one window (below 300 um) that is
turned by 5 degrees or stretched by a tenth may still show a peak, of 0.25 to 0.5: that is told as a weak fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mistline.mist.he import Grid, Registered
from mistline.mist.he_stain import haematoxylin
from mistline.mist.pyramid import Level, level_shapes

CLEAR_RATIO = 1.8  # of the highest correlation elsewhere; see above
CLEAR_CORRELATION = 0.1  # the least that is called a fit: two unlike windows reach more, the mean of several does not
MIN_NUCLEI = 15  # in a window: fewer fit by chance
ENOUGH_NUCLEI = 30  # in all windows: with fewer, no fit is no proof of a wrong matrix
_PX_UM = 0.4  # the level used has pixels of at least this size, a fifteenth of a nucleus
_WINDOW_PX, _REACH_PX = 640, 160
_MOST_WINDOWS = 36
_PEAK_UM = 12.0  # beyond this, a correlation is "elsewhere": further than one nucleus
_SMALLEST_UM, _LARGEST_UM = 1.0, 8.0  # deviations of the filter that leaves nuclei
_READING_WINDOWS = 4

Surface = NDArray[np.float32]


@dataclass(frozen=True)
class Fit:
    """How well haematoxylin and DAPI fit.

    Attributes:
        n_windows: windows compared.
        n_nuclei: cells in them.
        reach_um: largest offset tried.
        correlation: at no offset, the mean of the windows.
        best: the highest correlation at any offset.
        elsewhere: the highest correlation further than 12 um from the best.
        offset_um: (x, y) from where the DAPI is to where the haematoxylin lies, at the best.
        n_clear: windows with a clear peak of their own.
        local_um: median and 90th percentile of the offsets' lengths over these windows; None without any.
        far_share: share of these windows whose offset is longer than `far_um` of `measure`.
    """

    n_windows: int
    n_nuclei: int
    reach_um: float
    correlation: float
    best: float
    elsewhere: float
    offset_um: tuple[float, float]
    n_clear: int
    local_um: tuple[float, float] | None
    far_share: float

    @property
    def is_clear(self) -> bool:
        """Whether there is one peak."""
        return _clear(self.best, self.elsewhere)

    def values(self) -> dict[str, Any]:
        """Return JSON values, rounded to what is meant."""
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        rounded["offset_um"] = [round(value, 2) for value in self.offset_um]
        rounded["local_um"] = None if self.local_um is None else [round(value, 2) for value in self.local_um]
        return rounded


class Nuclei:
    """The DAPI image at the resolution of the check.

    Args:
        image: the slide's OME-Zarr.
        channel: index of DAPI.
        pixel_size_um: micrometres a full-resolution pixel.
        yx_px: [n, 2] centres of the cells in full-resolution pixels.
    """

    def __init__(self, image: Path, channel: int, pixel_size_um: float, yx_px: NDArray[np.float64]) -> None:
        full = Level(image).shape[1:]
        level = 0
        while pixel_size_um * 2**level < _PX_UM and level + 1 < len(level_shapes(full)):
            level += 1
        self._level, self._channel = Level(image, level), channel
        self.grid = Grid(self._level.shape[1:], (2.0**level, 2.0**level))
        self.px_um = pixel_size_um * 2**level
        self.yx_px = yx_px / 2**level
        self.window = tuple(min(_WINDOW_PX, side) for side in self.grid.shape_px)
        self.reach = min(_REACH_PX, min(self.window) // 4)

    def corners(self) -> list[tuple[int, int, int]]:
        """Return row, column and number of cells of the windows that have enough of them in their inner part."""
        inner = [side - 2 * self.reach for side in self.window]
        starts = [
            np.linspace(0, whole - side, max(1, round((whole - 2 * self.reach) / part))).astype(int).tolist()
            for whole, side, part in zip(self.grid.shape_px, self.window, inner, strict=True)
        ]
        found = []
        for row in starts[0]:
            for column in starts[1]:
                low = np.array([row, column]) + self.reach
                n = int(((self.yx_px >= low) & (self.yx_px < low + inner)).all(axis=1).sum())
                if n >= MIN_NUCLEI:
                    found.append((row, column, n))
        return found

    def read(self, corner: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the inner part of a window."""
        row, column = (start + self.reach for start in corner)
        height, width = (side - 2 * self.reach for side in self.window)
        return self._level.read(self._channel, slice(row, row + height), slice(column, column + width))


def measure(registered: Registered, nuclei: Nuclei, far_um: float, most: int = _MOST_WINDOWS) -> Fit | None:
    """Compare DAPI and haematoxylin in windows over the slide.

    Args:
        registered: the H&E with its matrix.
        nuclei: the DAPI image and the cells.
        far_um: an offset longer than this counts as far.
        most: windows looked at, evenly spread over those with cells.

    Returns:
        The fit; None where no window has cells enough and lies on the H&E.
    """
    usable = [place for place in nuclei.corners() if _on_he(registered, nuclei, place[:2])]
    if not usable:
        return None
    chosen = [usable[n] for n in np.unique(np.linspace(0, len(usable) - 1, min(most, len(usable))).astype(int))]
    surfaces = [_surface(registered, nuclei, place[:2]) for place in chosen]
    mean = np.mean(surfaces, axis=0)
    best, elsewhere, offset = _peak(mean, nuclei)
    peaks = [_peak(surface, nuclei) for surface in surfaces]
    local = np.array([np.hypot(*own) for high, other, own in peaks if _clear(high, other)])
    return Fit(
        n_windows=len(chosen),
        n_nuclei=sum(place[2] for place in chosen),
        reach_um=nuclei.reach * nuclei.px_um,
        correlation=float(mean[nuclei.reach, nuclei.reach]),
        best=best,
        elsewhere=elsewhere,
        offset_um=offset,
        n_clear=len(local),
        local_um=(float(np.median(local)), float(np.percentile(local, 90))) if len(local) else None,
        far_share=float((local > far_um).mean()) if len(local) else 0.0,
    )


def readings(
    matrix: NDArray[np.float64], shape_px: tuple[int, int], pixel_size_um: float
) -> dict[str, NDArray[np.float64]]:
    """Return other matrices that a mistake may have made of the right one: how it would have to be read -> [3, 3].

    Args:
        matrix: as given.
        shape_px: rows, columns of the H&E.
        pixel_size_um: micrometres a pixel of the DAPI image.
    """
    height, width = shape_px
    left_right = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    up_down = np.array([[1, 0, 0], [0, -1, height], [0, 0, 1]], dtype=np.float64)
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float64)
    return {
        "with the H&E mirrored left to right": matrix @ left_right,
        "with the H&E mirrored top to bottom": matrix @ up_down,
        "with the H&E turned by 180 degrees": matrix @ left_right @ up_down,
        "with the H&E turned by 90 degrees clockwise": matrix @ swap @ up_down,
        "with the H&E turned by 90 degrees anticlockwise": matrix @ swap @ left_right,
        "with rows and columns of the H&E exchanged": matrix @ swap,
        "with the H&E mirrored at its rising diagonal": matrix @ swap @ left_right @ up_down,
        "with rows and columns of both images exchanged": swap @ matrix @ swap,
        "the other way round, from DAPI to H&E": np.linalg.inv(matrix),
        "in micrometres instead of pixels": np.diag([1 / pixel_size_um, 1 / pixel_size_um, 1]) @ matrix,
    }


def compare_readings(registered: Registered, nuclei: Nuclei, pixel_size_um: float, far_um: float) -> dict[str, Fit]:
    """Measure the fit of every other reading of the matrix, in a few windows; those that miss the slide are none."""
    histology = registered.histology
    found: dict[str, Fit] = {}
    for name, matrix in readings(registered.matrix, histology.shape_px, pixel_size_um).items():
        fit = measure(Registered(histology, matrix), nuclei, far_um, _READING_WINDOWS)
        if fit is not None:
            found[name] = fit
    return found


def _clear(best: float, elsewhere: float) -> bool:
    return best >= CLEAR_CORRELATION and best >= CLEAR_RATIO * elsewhere


def _on_he(registered: Registered, nuclei: Nuclei, corner: Sequence[int]) -> bool:
    """Tell whether the inner part of a window lies on the H&E; around it, up to the reach, less may be known."""
    rows, columns = (
        (start + nuclei.reach, start + side - nuclei.reach) for start, side in zip(corner, nuclei.window, strict=True)
    )
    xy = np.array([[x, y] for x in columns for y in rows], dtype=np.float64) * nuclei.grid.step
    return bool(registered.covers(xy).all())


def _surface(registered: Registered, nuclei: Nuclei, corner: Sequence[int]) -> Surface:
    """Return the correlation at every offset [2 reach + 1, 2 reach + 1]; no offset is in the middle."""
    place = (corner[0], corner[1])
    pixels, covered = registered.warp(nuclei.grid, place, (nuclei.window[0], nuclei.window[1]))
    amount = haematoxylin(pixels)
    amount[~covered] = amount[covered].mean()  # an edge of white would be taken for structure
    dye = _nuclear(amount, nuclei.px_um)
    dapi = _nuclear(nuclei.read(place).astype(np.float32), nuclei.px_um)
    surface = cv2.matchTemplate(dye, dapi, cv2.TM_CCOEFF_NORMED)
    return np.nan_to_num(np.asarray(surface, dtype=np.float32), posinf=0, neginf=0)


def _nuclear(pixels: NDArray[np.float32], px_um: float) -> NDArray[np.float32]:
    """Keep what is as large as nuclei."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), _SMALLEST_UM / px_um)
    return np.asarray(smooth - cv2.GaussianBlur(pixels, (0, 0), _LARGEST_UM / px_um))


def _peak(surface: Surface, nuclei: Nuclei) -> tuple[float, float, tuple[float, float]]:
    """Return the highest correlation, the highest further away, and the offset (x, y) of the first in micrometres."""
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
    away = np.hypot(rows - row, columns - column) * nuclei.px_um > _PEAK_UM
    offset = (float(column - nuclei.reach) * nuclei.px_um, float(row - nuclei.reach) * nuclei.px_um)
    return float(surface.max()), float(surface[away].max(initial=0.0)), offset
