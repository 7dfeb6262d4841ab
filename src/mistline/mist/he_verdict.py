"""What to do about an alignment: refuse it with a sentence, or accept it with what a reader should know.

The limits are those of a crop: a typical cell is 10 um wide, so at 5 um the square around a cell shows as much of
its neighbour as of itself. An alignment by hand is off by 1 to 3 um.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.mist.he_check import ENOUGH_NUCLEI, Fit
from mistline.xenium.alignment import Alignment, Landmarks

MOST_OFFSET_UM = 5.0
MOST_FAR_SHARE = 0.25  # of windows beyond that: a folded corner is no reason to lose a slide, a wrong turn is
DOUBTFUL_OFFSET_UM = 2.5
WEAK_CORRELATION = 0.6  # right alignments had 0.9; one turned by 5 degrees over a crop of 190 um 0.5
MOST_LANDMARK_UM = 10.0  # a landmark is one nucleus: pairs that disagree by a cell's width are not pairs
DOUBTFUL_LANDMARK_UM = 5.0
MOST_SIZE_DEVIATION = 0.1  # of the matrix's pixel size from that in the file
_ALIGN_AGAIN = "align the images again in Xenium Explorer and export the matrix"


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Attributes:
        slide: its name.
        pixel_size_um: micrometres a pixel of the DAPI image.
        alignment: as read.
        he_pixel_size_um: as the H&E's file says; None when it does not say.
    """

    slide: str
    pixel_size_um: float
    alignment: Alignment
    he_pixel_size_um: float | None

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"slide {self.slide}, H&E alignment"


def judge(subject: Subject, fit: Fit | None, others: Mapping[str, Fit]) -> list[str]:
    """Accept or refuse an alignment.

    Args:
        subject: what is judged.
        fit: what the comparison with DAPI found; None where no window could be compared.
        others: the fits of other readings of the matrix.

    Returns:
        Warnings.

    Raises:
        InputError: the H&E does not lie where the matrix says.
    """
    warnings = _landmark_warnings(subject)
    if fit is not None and fit.n_clear == 0 and not fit.is_clear:
        if fit.n_nuclei >= ENOUGH_NUCLEI:
            raise _nowhere(subject, fit, others)
        warnings.append(
            f"the alignment could not be confirmed: {fit.n_nuclei} nuclei are too few to tell a fit from chance"
        )
    elif fit is not None:
        warnings += _near(subject, fit)
    stated, meant = subject.he_pixel_size_um, subject.alignment.scale * subject.pixel_size_um
    if stated is not None and abs(meant / stated - 1) > MOST_SIZE_DEVIATION:
        warnings.append(f"the H&E's pixels are {meant:.4f} um by the alignment and {stated:.4f} um by its OME-XML")
    return warnings


def require_covered(subject: Subject, covered: NDArray[np.bool_], largest_share: float, hint: str) -> None:
    """Refuse an H&E that shows too few of the slide's cells.

    Raises:
        InputError: the share of cells that are not wholly on it is above `largest_share`.
    """
    missing = int((~covered).sum())
    if missing > largest_share * len(covered):
        what = f"{missing} of {len(covered)} cells do not lie on the H&E{hint}"
        remedy = f"{_ALIGN_AGAIN}, give the H&E of this slide, or raise cells.max_excluded_share"
        raise InputError(subject.where, what, remedy)


def _landmark_warnings(subject: Subject) -> list[str]:
    landmarks: Landmarks | None = subject.alignment.landmarks
    if landmarks is None:
        return []
    if landmarks.error_px is None or landmarks.largest_px is None:
        return [f"{landmarks.n} landmarks fit any alignment: they are no check of it"]
    error_um, largest_um = (value * subject.pixel_size_um for value in (landmarks.error_px, landmarks.largest_px))
    what = f"its {landmarks.n} landmarks disagree by {error_um:.1f} um (number {landmarks.worst}: {largest_um:.1f} um)"
    if error_um > MOST_LANDMARK_UM:
        raise InputError(subject.where, what, "set the landmarks again, each on one and the same nucleus")
    return [what] if error_um > DOUBTFUL_LANDMARK_UM else []


def _near(subject: Subject, fit: Fit) -> list[str]:
    """Refuse a fit that lies elsewhere; return warnings of one that is doubtful."""
    x_um, y_um = fit.offset_um
    away_um = float(np.hypot(x_um, y_um))
    if fit.is_clear and away_um > MOST_OFFSET_UM:
        to_add = " and ".join(f"{round(-um / subject.pixel_size_um) + 0:+d}" for um in fit.offset_um)
        what = (
            f"its haematoxylin fits the DAPI best {away_um:.1f} um away (x {x_um:+.1f}, y {y_um:+.1f} um; correlation"
            f" {fit.best:.2f} there, {fit.correlation:.2f} where the alignment puts it)"
        )
        raise InputError(subject.where, what, f"{_ALIGN_AGAIN}, or add {to_add} to the last column of its x and y rows")
    if fit.far_share > MOST_FAR_SHARE and fit.local_um is not None:
        what = (
            f"its haematoxylin lies more than {MOST_OFFSET_UM:g} um beside the DAPI in {fit.far_share:.0%} of"
            f" {fit.n_clear} places (half of them {fit.local_um[0]:.1f} um or more): it is slightly turned or stretched"
        )
        raise InputError(subject.where, what, f"{_ALIGN_AGAIN}, with landmarks in all corners of the tissue")
    warnings = []
    furthest_um = max(away_um if fit.is_clear else 0.0, fit.local_um[1] if fit.local_um else 0.0)
    if furthest_um > DOUBTFUL_OFFSET_UM:
        warnings.append(f"the haematoxylin lies up to {furthest_um:.1f} um beside the DAPI")
    if fit.best < WEAK_CORRELATION and fit.is_clear:
        warnings.append(f"haematoxylin and DAPI fit weakly (correlation {fit.best:.2f}): look at the picture")
    return warnings


def _nowhere(subject: Subject, fit: Fit, others: Mapping[str, Fit]) -> InputError:
    what = (
        f"its haematoxylin fits the DAPI nowhere within {fit.reach_um:.0f} um (correlation {fit.correlation:.2f} where"
        f" the alignment puts it, {fit.best:.2f} at best)"
    )
    better = [name for name, other in others.items() if other.is_clear]
    if better:
        name = max(better, key=lambda item: others[item].best)
        what += f"; read {name} it does (correlation {others[name].best:.2f})"
    return InputError(subject.where, what, f"{_ALIGN_AGAIN}; check that it was made for this very file")
