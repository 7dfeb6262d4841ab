"""What an edit asks for, in words, and what the words mean: genes, levels, slide and cells."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.generation import Edit
from mistline.core.errors import ConfigError, InputError
from mistline.data.tables import read_slide
from mistline.infer.generators import Generator
from mistline.store.manifest import read_manifest

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One edit.

    Args:
        genes: symbols or ids of the genes that are changed together.
        levels: [L][genes] what becomes of the count of each, as `config.generation.Edit` has it.
        slide: whose cells; None for the first that has test cells.
        cells: ids; none for a draw.
        n_cells: how many are drawn.
    """

    genes: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    slide: str | None = None
    cells: tuple[str, ...] = ()
    n_cells: int = 4

    @classmethod
    def of(cls, edit: Edit) -> Asked:
        """Return an edit of the settings, which takes all its genes to the same level."""
        levels = tuple((level,) * len(edit.genes) for level in edit.levels)
        return cls(edit.genes, levels, edit.slide, edit.cells, edit.n_cells)

    def name(self, level: int) -> str:
        """Return how one of its levels is called."""
        return " / ".join(dict.fromkeys(self.levels[level]))


def asked_by_hand(sets: Sequence[str], slide: str | None, cells: Sequence[str]) -> Asked:
    """Return the edit of options `--set GENE=LEVEL[,LEVEL...]`: all genes are changed together.

    Raises:
        ConfigError: an option is not of that form, names a gene twice, or has another number of levels.
    """
    genes, levels = [], []
    for text in sets:
        gene, equals, told = text.rpartition("=")
        if not equals or not gene or not told:
            raise ConfigError("--set", f"{text!r} is no change of a gene", "write GENE=LEVEL, such as ERBB2=0")
        if gene in genes:
            raise ConfigError("--set", f"{gene} is set twice", f"write its levels in one: {gene}=0,x2")
        genes.append(gene)
        levels.append(told.split(","))
    most = max(map(len, levels))
    if any(len(own) not in (1, most) for own in levels):
        counted = ", ".join(f"{gene} {len(own)}" for gene, own in zip(genes, levels, strict=True))
        raise ConfigError("--set", f"genes are changed together, and their levels are not equally many ({counted})",
                          "give each gene one level, or as many as the others")  # fmt: skip
    steps = zip(*(own * most if len(own) == 1 else own for own in levels), strict=True)
    return Asked(tuple(genes), tuple(tuple(step) for step in steps), slide, tuple(cells))


def changed(counts: Counts, level: str) -> Counts:
    """Return counts at a level: the level itself, or counts times its factor, rounded; 0 times a factor stays 0.

    Args:
        counts: [B] that the cells have.
        level: a count such as 0, or a factor such as x2.

    Raises:
        ConfigError: it is neither.
    """
    factor = level.removeprefix("x")
    try:
        value = float(factor)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError("level of an edit", f"{level!r} is no count and no factor", "write 0, 12 or x2")
    if level != factor:
        return np.floor(counts * value + 0.5).astype(np.int64)
    if value != int(value):
        raise ConfigError("level of an edit", f"a cell has no {level} counts", f"write a whole number, or x{level}")
    return np.full_like(counts, int(value))


def chosen_cells(generator: Generator, asked: Asked) -> pd.DataFrame:
    """Return the encoded cells of an edit: those named, or the first test cells of the draw.

    Raises:
        ConfigError: an unknown slide or cell (names the nearest).
        InputError: a slide without test cells, or a cell that was not encoded.
    """
    slide = asked.slide
    if slide is None:
        slide = next((name for name in generator.readers if len(generator.cells(name, "test", 1))), None)
        if slide is None:
            raise InputError("edit", "no slide of these latents has test cells", "name a slide and its cells")
    if slide not in generator.readers:
        known = ", ".join(generator.readers)
        raise ConfigError("the slide of an edit", f"{slide!r} has no latents here", f"choose one of {known}")
    if not asked.cells:
        found = generator.cells(slide, "test", asked.n_cells)
        if not len(found):
            raise InputError(f"slide {slide}", "none of its encoded cells is a test cell", "name its cells")
        return found
    table = generator.readers[slide].cells
    place = {cell_id: row for row, cell_id in enumerate(table["cell_id"])}
    for cell_id in asked.cells:
        if cell_id not in place:
            raise _absent(generator.manifest, slide, cell_id, list(place))
    return table.iloc[[place[cell_id] for cell_id in dict.fromkeys(asked.cells)]]


def _absent(manifest: Path, slide: str, cell_id: str, encoded: Sequence[str]) -> ConfigError | InputError:
    where, stored = f"slide {slide}", read_slide(read_manifest(manifest), slide, "cell").ids.to_pylist()
    if cell_id in stored:
        what = f"cell {cell_id} is not among its {len(encoded)} encoded cells"
        return InputError(where, what, f"raise the number of encoded cells, or choose one such as {encoded[0]}")
    near = difflib.get_close_matches(cell_id, encoded, n=1, cutoff=0)[0]
    what = f"cell {cell_id} is not in the dataset: it does not exist, or has no image"
    return ConfigError(where, what, f"did you mean {near}")
