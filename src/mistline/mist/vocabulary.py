"""One list of genes for the cohort: sorted by id, with the slides that measured each.

A gene that is not on a slide's panel was not measured there; it is never a zero. Slides list their genes in
sorted order, as the vocabulary does, so a slide's map into it is the positions where it measured.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError

_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}(\.\d+)?$")


@dataclass(frozen=True, slots=True)
class Panel:
    """The genes of one slide.

    Attributes:
        gene_ids: [g] sorted, unique.
        symbols: [g] their symbols.
    """

    gene_ids: NDArray[np.str_]
    symbols: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Genes:
    """The genes of a cohort.

    Attributes:
        gene_ids: [G] sorted.
        symbols: [G], the commonest of the names that slides give a gene.
        aliases: [G], the other names, sorted: gene symbols change between panel versions, ids do not.
        slides: [S] names.
        measured: [S, G] which slide measured which gene.
    """

    gene_ids: NDArray[np.str_]
    symbols: NDArray[np.str_]
    aliases: tuple[tuple[str, ...], ...]
    slides: tuple[str, ...]
    measured: NDArray[np.bool_]

    def index_of(self, slide: str) -> NDArray[np.int64]:
        """Return [g]: the position here of each gene of a slide's own list."""
        return np.flatnonzero(self.measured[self.slides.index(slide)])

    def table(self) -> pd.DataFrame:
        """Return a row a gene: gene_id, symbol, aliases, n_slides and the names of the slides that measured it."""
        names = np.array(self.slides, dtype=object)
        return pd.DataFrame(
            {
                "gene_id": self.gene_ids.astype(object),
                "symbol": self.symbols.astype(object),
                "aliases": [list(names) for names in self.aliases],
                "n_slides": self.measured.sum(axis=0).astype(np.int64),
                "slides": [names[column].tolist() for column in self.measured.T],
            }
        )


def unite(panels: Mapping[str, Panel]) -> Genes:
    """Unite the panels of slides.

    Raises:
        InputError: a panel is not sorted or names a gene twice, or Ensembl ids meet symbols.
    """
    _check_namespaces(panels)
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for slide, panel in panels.items():
        _check_panel(slide, panel)
        for gene_id, symbol in zip(panel.gene_ids.tolist(), panel.symbols.tolist(), strict=True):
            names[gene_id][symbol] += 1
    gene_ids = np.array(sorted(names), dtype=str)
    measured = np.array([np.isin(gene_ids, panel.gene_ids) for panel in panels.values()], dtype=bool)
    ranked = [
        sorted(names[gene_id], key=lambda name, of=names[gene_id]: (-of[name], name)) for gene_id in sorted(names)
    ]
    symbols = np.array([found[0] for found in ranked], dtype=str)
    aliases = tuple(tuple(sorted(found[1:])) for found in ranked)
    return Genes(gene_ids, symbols, aliases, tuple(panels), measured.reshape(len(panels), len(gene_ids)))


def shared_genes(panels: Sequence[Panel]) -> Panel:
    """Return the genes that every one of these panels measured, sorted by id."""
    first = panels[0]
    kept = np.ones(len(first.gene_ids), dtype=bool)
    for panel in panels[1:]:
        kept &= np.isin(first.gene_ids, panel.gene_ids)
    return Panel(first.gene_ids[kept], first.symbols[kept])


def namespace_of(panel: Panel) -> str:
    """Return `ensembl` when most ids of the panel are Ensembl's (added reporters are not), else `symbol`."""
    matching = sum(_ENSEMBL.match(gene_id) is not None for gene_id in panel.gene_ids.tolist())
    return "ensembl" if 2 * matching > len(panel.gene_ids) else "symbol"


def _check_namespaces(panels: Mapping[str, Panel]) -> None:
    kinds = {slide: namespace_of(panel) for slide, panel in panels.items() if len(panel.gene_ids)}
    if len(set(kinds.values())) > 1:
        symbol = next(slide for slide, kind in kinds.items() if kind == "symbol")
        ensembl = next(slide for slide, kind in kinds.items() if kind == "ensembl")
        raise InputError(
            f"genes of slide {symbol}",
            f"its ids are symbols while those of slide {ensembl} are Ensembl ids, so no gene would match",
            "put Ensembl ids into its feature table, or leave it out with only:",
        )


def _check_panel(slide: str, panel: Panel) -> None:
    if len(panel.gene_ids) > 1 and not (panel.gene_ids[:-1] < panel.gene_ids[1:]).all():
        raise InputError(
            f"genes of slide {slide}", "they are not sorted and unique", "run read_cells for this slide again"
        )
