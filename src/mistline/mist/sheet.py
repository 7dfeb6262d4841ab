"""What the sealing stages are told of the cohort, and whether the splits are of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.mist.seal import SlideFiles


def read_entries(text: str) -> list[dict[str, Any]]:
    """Read the sheet's entries from JSON.

    Raises:
        ConfigError: not a list of objects with slide, donor, tissue and disease.
    """
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError("slides-json", f"not valid JSON ({error})", "pass a JSON list of slides") from None
    for entry in entries:
        missing = [key for key in ("slide", "donor", "tissue", "disease") if key not in entry]
        if missing:
            raise ConfigError("slides-json", f"a slide lacks {missing[0]}", "give slide, donor, tissue and disease")
    if not entries:
        raise ConfigError("slides-json", "no slides", "name at least one")
    return list(entries)


def read_sections(text: str) -> dict[str, Any]:
    """Read the sections that the dataset was made with.

    Raises:
        ConfigError: not a JSON object.
    """
    try:
        return dict(json.loads(text))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ConfigError("params", f"not a JSON object ({error})", "pass the sections as one object") from None


def check_splits(files: Sequence[SlideFiles], splits: Mapping[str, Any]) -> None:
    """Check that splits.json is of these slides, donors and files.

    Raises:
        InputError: it is not.
    """
    for item in files:
        described = splits["slides"].get(item.slide)
        if described is None or described["donor"] != item.donor:
            what = f"splits.json does not know it as a slide of donor {item.donor}"
            raise InputError(f"slide {item.slide}", what, "run make_splits again")
        if not item.splits.is_file() or hash_file(item.splits) != described["sha256"]:
            raise InputError(item.splits, "it is not the file that splits.json describes", "run make_splits again")


def refuse_copies(files: Sequence[SlideFiles]) -> None:
    """Refuse a tissue that is there twice, as another donor's: it would be trained on and tested.

    Raises:
        InputError: two slides of different donors hold the same counts.
    """
    owners: dict[str, SlideFiles] = {}
    sizes = [(item.folder / "counts.h5ad").stat().st_size for item in files]
    for item, size in zip(files, sizes, strict=True):
        if sizes.count(size) == 1:
            continue  # only what is equally long need be read
        first = owners.setdefault(hash_file(item.folder / "counts.h5ad"), item)
        if first.donor != item.donor:
            what = f"its counts are those of slide {first.slide}, and their donors are {first.donor} and {item.donor}"
            raise InputError(f"slide {item.slide}", what, "leave one of the two out, or correct the donor")
