"""Loading the whole configuration and the slide sheet."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistline.config.base import validate
from mistline.config.root import Config
from mistline.core.errors import ConfigError


def load_config(values: Mapping[str, Any], *, root: Path) -> Config:
    """Check a whole configuration.

    Args:
        values: the merged config files, as Snakemake gives them.
        root: the repository's folder; a sheet that is not in the working directory is looked for there.

    Raises:
        ConfigError: a key is unknown, a value is wrong or the sheet cannot be read.
    """
    values = dict(values)
    if isinstance(values.get("slides"), str):
        values["slides"] = read_sheet(_locate(Path(values["slides"]), root))
    if isinstance(values.get("only"), str):  # --config only=a,b
        values["only"] = [name for name in values["only"].split(",") if name]
    return validate(Config, values, "config")


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated slide sheet; empty fields count as absent.

    Raises:
        ConfigError: the sheet is missing, empty or ragged.
    """
    if not os.path.isfile(path):  # also of a name that no file can have
        raise ConfigError(
            f"slides: {path}", "no such sheet", "give a tsv with the columns slide, bundle, donor, tissue, disease"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"slides: {path}", f"not a tsv ({error})", "save it as tab-separated UTF-8") from None
    header = next(iter(rows), {})
    separator = next((sign for sign in ",;" if len(header) == 1 and sign in str(*header)), None)
    if separator is not None:
        raise ConfigError(
            f"slides: {path}",
            f"its columns are separated by {separator!r}, not by tabs",
            "save it as tab-separated UTF-8",
        )
    if not rows:
        raise ConfigError(f"slides: {path}", "the sheet has no rows", "write one row a slide")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ConfigError(
                f"slides: {path}, line {number}",
                "the number of fields differs from the header's",
                "separate fields by one tab each",
            )
    return [{key: value for key, value in row.items() if value} for row in rows]


def _locate(path: Path, root: Path) -> Path:
    return path if path.is_absolute() or os.path.isfile(path) else root / path
