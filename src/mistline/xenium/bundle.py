"""The run's own description: `experiment.xenium`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import parse_json

MAX_PIXEL_SIZE_DIFFERENCE = 0.005
_LARGEST_PIXEL_UM = 100.0


@dataclass(frozen=True)
class Experiment:
    """What `experiment.xenium` says, as far as it is used.

    Args:
        xoa: the version of the analysis software as found ("" when absent); a hint, never trusted.
        pixel_size_um: micrometres a pixel of the full-resolution morphology image.
        n_cells: cells announced; None when the file does not say.
        panel_name: name of the gene panel ("" when absent).
        tissue: the tissue the panel was designed for ("" when absent).
        slide_id: the glass slide's number ("" when absent).
        region: the region's name ("" when absent).
    """

    xoa: str
    pixel_size_um: float
    n_cells: int | None
    panel_name: str
    tissue: str
    slide_id: str
    region: str


def read_experiment(path: Path) -> Experiment:
    """Read `experiment.xenium`.

    Raises:
        InputError: the file is missing, is not JSON, or its pixel size or number of cells makes no sense.
    """
    values = _read_object(path)
    return Experiment(
        xoa=_text(values, "analysis_sw_version"),
        pixel_size_um=_pixel_size(path, values),
        n_cells=_count(path, values, "num_cells"),
        panel_name=_text(values, "panel_name"),
        tissue=_text(values, "panel_tissue_type"),
        slide_id=_text(values, "slide_id"),
        region=_text(values, "region_name"),
    )


def version_hint(xoa: str) -> tuple[int, int] | None:
    """Return (major, minor) of a version string, None when it holds none (such as "R&D")."""
    match = re.search(r"(\d+)\.(\d+)", xoa)
    return (int(match[1]), int(match[2])) if match else None


def check_pixel_size(pixel_size_um: float, image: Path, image_pixel_size_um: float | None) -> None:
    """Compare the bundle's pixel size with the one an image's OME-XML states.

    Raises:
        InputError: they differ by more than 0.5 %.
    """
    if image_pixel_size_um is None:
        return
    difference = abs(image_pixel_size_um - pixel_size_um) / pixel_size_um
    if not difference <= MAX_PIXEL_SIZE_DIFFERENCE:
        raise InputError(
            image,
            f"its OME-XML says {image_pixel_size_um:g} um a pixel, experiment.xenium says {pixel_size_um:g}"
            f" ({difference:.1%} apart)",
            "use the full-resolution image of the same run, or correct pixel_size in experiment.xenium",
        )


def _read_object(path: Path) -> dict[str, Any]:
    again = "copy it again from the run's output bundle"
    try:
        values = parse_json(path, "truncated or not JSON", again)
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None
    if not isinstance(values, dict):
        raise InputError(path, "not a JSON object", again)
    return values


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return "" if value is None else str(value).strip()


def _pixel_size(path: Path, values: dict[str, Any]) -> float:
    number = _number(values.get("pixel_size"))
    if number is None or not 0 < number <= _LARGEST_PIXEL_UM:
        what = f"pixel_size must be a number above zero, not {values.get('pixel_size')!r}"
        if number is not None and number > 0:
            what = f"pixel_size is {number:g} um, which no microscope has"
        raise InputError(path, what, "restore the file as the instrument wrote it")
    return number


def _count(path: Path, values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    number = _number(value)
    if number is None or number < 0 or number != int(number):
        raise InputError(
            path, f"{key} must be a whole number, not {value!r}", "restore the file as the instrument wrote it"
        )
    return int(number)


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else. The numbers of JSON have no bounds, those of a float do."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
