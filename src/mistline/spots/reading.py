"""A table, whatever it is."""

from __future__ import annotations

from pathlib import Path

from mistline.config.slides import Values
from mistline.core.errors import InputError
from mistline.spots.h5ad import read_h5ad
from mistline.spots.table import Table
from mistline.spots.visium import is_visium, read_visium


def read_table(path: Path, values: Values, um_per_unit: float | None) -> Table:
    """Read an h5ad or a Visium folder.

    Raises:
        InputError: it is neither, or see `read_h5ad` and `read_visium`.
    """
    if not path.exists():
        raise InputError(path, "no such file or folder", "correct table: of the slide in the config")
    if path.is_file():
        return read_h5ad(path, values, um_per_unit)
    outs = path / "outs"
    return read_visium(outs if not is_visium(path) and is_visium(outs) else path, values, um_per_unit)
