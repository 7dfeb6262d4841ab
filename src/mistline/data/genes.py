"""The dataset's genes, and which slide measured which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mistline.core.files import read_arrow


@dataclass(frozen=True, slots=True)
class GeneTable:
    """The vocabulary; `G` genes sorted by id.

    Attributes:
        gene_ids: [G] Ensembl ids where the bundles have them.
        symbols: [G].
        measured: slide -> bool [G].
    """

    gene_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    measured: dict[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.gene_ids)

    def common(self) -> NDArray[np.bool_]:
        """Return bool [G]: measured on every slide of the dataset."""
        everywhere: NDArray[np.bool_] = np.ones(len(self), dtype=bool)
        for on_slide in self.measured.values():
            everywhere &= on_slide
        return everywhere


def read_genes(path: Path, slides: list[str]) -> GeneTable:
    """Read genes.parquet.

    Args:
        path: the file.
        slides: all slides of the dataset.

    Raises:
        InputError: the file is missing or damaged.
    """
    table = read_arrow(path, made_by="seal_dataset")
    if not len(table):  # tables of positions only
        return GeneTable((), (), {slide: np.zeros(0, dtype=bool) for slide in slides})
    lists = table["slides"].combine_chunks()
    gene = np.repeat(np.arange(len(table)), lists.value_lengths().to_numpy())
    names = lists.flatten().dictionary_encode()
    measured = {}
    for slide in slides:
        code = names.dictionary.index(slide).as_py()
        measured[slide] = np.zeros(len(table), dtype=bool)
        measured[slide][gene[names.indices.to_numpy() == code]] = True
    return GeneTable(tuple(table["gene_id"].to_pylist()), tuple(table["symbol"].to_pylist()), measured)
