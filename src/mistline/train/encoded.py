"""What generators of images are given: encoded cells, or pairs of them, of the slides whose folders are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mistline.core.errors import ConfigError, InputError
from mistline.train.latents import LatentSource
from mistline.train.pairs import PairSource

Split = Literal["train", "val", "test"]


def open_encoded(
    latents: Sequence[Path], pairs: Sequence[Path], split: Split, dataset_version: str
) -> LatentSource | PairSource:
    """Open one split.

    Args:
        latents: folders of `encode_cells`, each named as its slide.
        pairs: files of `pair_cells`; without any, cells are read one by one.
        split: which.
        dataset_version: that the latents must be of.

    Raises:
        InputError: a folder or file is missing, damaged or does not fit the others, or is of another dataset.
    """
    folders = {folder.name: folder for folder in latents}
    if len(folders) < len(latents) or not folders:
        raise ConfigError("--latents", "not one folder for each slide", "repeat the option once a slide")
    source = PairSource(folders, pairs, split) if pairs else LatentSource(folders, split)
    if source.origin.dataset_version != dataset_version:
        what = f"made from dataset version {source.origin.dataset_version[:12]}, this one is {dataset_version[:12]}"
        raise InputError(latents[0], what, "run encode_cells again")
    return source


def check_pairs(package: str, pairs: Sequence[Path]) -> None:
    """Refuse pairs where a generator draws from noise, and their lack where it goes from cell to cell.

    Args:
        package: of the registered model.
        pairs: files of `pair_cells`.

    Raises:
        ConfigError: the one or the other.
    """
    goes_between = package.rsplit(".", 1)[-1] == "flow"
    if goes_between and not pairs:
        raise ConfigError("--pairs", "a flow is trained and judged on pairs of cells", "run pair_cells, and name them")
    if pairs and not goes_between:
        raise ConfigError("--pairs", "this generator draws from noise, not from another cell", "leave them out")
