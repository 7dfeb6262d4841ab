"""Imputed genes as the viewer offers them: apart from measured ones, named as imputed, each with its sd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.mist.expression import CountsFile
from mistline.report.sources import SlideSource
from mistline.report.viewer_columns import Column, numeric
from mistline.report.viewer_pack import Codes, quantise
from mistline.store.imputed import ImputedGenes, read_imputed

_LEVELS = 2**8  # of a mean and of an sd: finer ones would cost cells and tell nothing
_REMEDY = "run impute-slide again"


@dataclass(frozen=True)
class Layers:
    """What models added.

    Attributes:
        files: slide -> model -> its file.
        genes: model -> ids of the genes to store.
        markers: symbols and ids of all genes that any model added.
    """

    files: Mapping[str, Mapping[str, Path]]
    genes: Mapping[str, Sequence[str]]
    markers: frozenset[str]

    def columns(self, slide: SlideSource, ids: NDArray[np.str_]) -> list[Column]:
        """Return what a slide's cells can be coloured by besides what was measured.

        Args:
            slide: the slide.
            ids: [n] its cells.

        Raises:
            InputError: a file is of other cells, or of a gene that the slide measures.
        """
        found = []
        for model, path in self.files.get(slide.name, {}).items():
            own = read_imputed(path)
            _require_unmeasured(path, own, slide)
            rows = pd.Index(own.cell_id).get_indexer(pd.Index(ids))
            if (rows < 0).any() or len(rows) != len(own.cell_id):
                raise InputError(path, f"it lists other cells than slide {slide.name} has", _REMEDY)
            places = [own.genes.index(gene) for gene in self.genes[model] if gene in own.genes]
            for place in sorted(places, key=lambda one: own.symbols[one].lower()):
                found.append(_column(own, model, place, rows))
        return found


def read_layers(
    paths: Sequence[Path], slides: Sequence[SlideSource], n_genes: int, markers: Sequence[str], version: str
) -> Layers:
    """Look over the files of genes that no slide measures.

    Args:
        paths: of every model and slide.
        slides: those that are shown.
        n_genes: most variable genes to store of a model, on its first slide.
        markers: symbols or ids of genes to store besides.
        version: of the dataset.

    Raises:
        InputError: a file is damaged, of another version of the dataset, of several slides, or of tested genes.
    """
    files: dict[str, dict[str, Path]] = {slide.name: {} for slide in slides}
    genes: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    for path in paths:
        own = read_imputed(path)
        _check(path, own, version)
        name, model = str(own.slide[0]), own.origin.model
        known.update(own.genes, own.symbols)
        if name in files:
            files[name][model] = path
            genes.setdefault(model, _chosen(own, n_genes, markers))
    return Layers(files, genes, frozenset(known))


def _check(path: Path, own: ImputedGenes, version: str) -> None:
    made_from = own.origin.dataset_version
    if made_from != version:
        what = f"was made from dataset {made_from[:12]}, the report is of {version[:12]}"
        raise InputError(path, what, _REMEDY)
    if len(np.unique(own.slide)) > 1 or (own.fold >= 0).any():
        raise InputError(path, "it holds tested genes or several slides, and no genes to add to a slide", _REMEDY)


def _chosen(own: ImputedGenes, n: int, markers: Sequence[str]) -> tuple[str, ...]:
    """Return the markers among a model's genes, and those whose mean varies most over cells."""
    wanted = [gene for gene, symbol in zip(own.genes, own.symbols, strict=True) if {gene, symbol} & set(markers)]
    spread = np.nan_to_num(own.mean.var(axis=0, dtype=np.float64), nan=-1.0)
    ranked = [own.genes[place] for place in np.argsort(-spread, kind="stable").tolist()]
    return tuple(dict.fromkeys([*wanted, *ranked[:n]]))


def _require_unmeasured(path: Path, own: ImputedGenes, slide: SlideSource) -> None:
    with CountsFile(slide.folder / "counts.h5ad") as counts:
        measured = sorted(set(own.genes) & set(counts.gene_ids.tolist()))
    if measured:
        what = f"slide {slide.name} measures {measured[0]}: what is imputed is never shown in place of it"
        raise InputError(path, what, _REMEDY)


def _column(own: ImputedGenes, model: str, place: int, rows: NDArray[np.intp]) -> Column:
    title, group = f"{own.symbols[place]} (imputed by {model})", f"Imputed by {model}, not measured"
    sd = None if own.sd is None else _coarse(own.sd[rows, place])
    return numeric(title, group, _coarse(own.mean[rows, place]), imputed=model, sd=sd)


def _coarse(values: NDArray[np.float32]) -> Codes:
    return quantise(values, _LEVELS)
