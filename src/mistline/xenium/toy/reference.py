"""Single cells of the toy's tissue, as a reference holds them: without places, of other donors, with more genes.

Beside the genes of the shared panel they measure some that no slide does: two markers more of every cell type and one
gene more of every domain, the same programs as those of the panel's own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from mistline.core.hdf5 import write_h5ad
from mistline.core.seeds import generator
from mistline.xenium.toy.cells import donor_fold
from mistline.xenium.toy.panel import (
    CELL_TYPES,
    DOMAINS,
    MORPHOLOGY,
    N_DOMAIN_GENES,
    N_MARKERS,
    RECEIVER,
    SENDER,
    TARGET_FOLD,
    TARGETS,
    Panel,
    build_panel,
    domain_gene,
    marker,
)
from mistline.xenium.toy.settings import ToySlide
from mistline.xenium.toy.tissue import MIXTURE, PATCH_SHARE

if TYPE_CHECKING:
    import anndata

CELLS_OF_A_TYPE = 60
DONORS = ("atlas1", "atlas2")
MARKER_MEAN, OTHER_MEAN = 3.0, 0.2  # counts of a cell of size 1, of an unmeasured marker in its type and elsewhere
DOMAIN_MEAN, DOMAIN_FOLD = 0.8, 4.0
_MORE_MARKERS = 2  # of each type
_FIRST_ID = 91_000_000_000  # beyond the ids of any panel
_DEPTH = 2.0  # counts that dissociated cells give, of one on a slide
_PLATFORM_SPREAD = 0.3  # of the log factor of a gene between the two techniques
_NEAR_SENDERS = 1 / 3  # share of receivers that had a sender in reach


@dataclass(frozen=True)
class SingleCells:
    """`m` single cells and `R` genes.

    Args:
        ids: [R] of genes, as the panel spells them.
        symbols: [R].
        types: [m] index into CELL_TYPES.
        domains: [m] index into DOMAINS, where a cell lay.
        donors: [m] index into DONORS.
        counts: int32 [m, R].
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    types: NDArray[np.int64]
    domains: NDArray[np.int64]
    donors: NDArray[np.int64]
    counts: NDArray[np.int32]


def unmeasured_markers(cell_type: str) -> list[str]:
    """Return the symbols of a type's markers that no panel measures."""
    return [marker(cell_type, N_MARKERS + number) for number in range(_MORE_MARKERS)]


def unmeasured_domain_gene(domain: str) -> str:
    """Return the symbol of a domain's gene that no panel measures."""
    return domain_gene(domain, N_DOMAIN_GENES)


def draw_single_cells(slide: ToySlide) -> SingleCells:
    """Return as many cells of every type.

    Args:
        slide: whose seed, genes of the shared panel and spelling of ids are taken.
    """
    panel = build_panel(dataclasses.replace(slide, n_addon=0))
    symbols, more_means, more_fold = _unmeasured(slide)
    random = generator(slide.seed, "toy", "reference")
    types = np.repeat(np.arange(len(CELL_TYPES)), CELLS_OF_A_TYPE)
    domains = np.concatenate([random.choice(len(DOMAINS), CELLS_OF_A_TYPE, p=share) for share in _domain_shares()])
    donors = random.integers(len(DONORS), size=len(types))
    n_genes = panel.n_genes + len(symbols)
    shift = np.stack([donor_fold(dataclasses.replace(slide, donor=name), n_genes) for name in DONORS])
    fold = np.concatenate([panel.domain_fold, more_fold], axis=1)
    means = np.concatenate([panel.means, more_means], axis=1)[types] * fold[domains] * shift[donors]
    means[np.ix_(_near_sender(types, random), panel.index(*TARGETS))] *= TARGET_FOLD
    morphology = panel.index(*MORPHOLOGY)
    means[:, morphology] = panel.means[types][:, morphology] * random.gamma(3.0, 1 / 3, (len(types), len(morphology)))
    means *= _DEPTH * random.lognormal(-0.06, 0.35, (len(types), 1))
    means *= random.lognormal(0.0, _PLATFORM_SPREAD, n_genes)
    ids = _ids(slide, panel, symbols)
    counts = random.poisson(means).astype(np.int32)
    return SingleCells(ids, (*panel.symbols[: panel.n_genes], *symbols), types, domains, donors, counts)


def write_reference(path: Path, slide: ToySlide) -> None:
    """Write the single cells as an h5ad of counts with cell types and donors; equal slides give equal bytes.

    Args:
        path: the file.
        slide: as for `draw_single_cells`.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    write_h5ad(path, _table(draw_single_cells(slide)), compression="gzip", compression_opts=1)


def reference_truth() -> dict[str, Any]:
    """Return what is true of every toy reference."""
    return {
        "cells": CELLS_OF_A_TYPE * len(CELL_TYPES),
        "donors": list(DONORS),
        "unmeasured_markers": {name: unmeasured_markers(name) for name in CELL_TYPES},
        "unmeasured_domain_genes": {name: unmeasured_domain_gene(name) for name in DOMAINS},
        "marker_mean": {"in_its_type": MARKER_MEAN, "elsewhere": OTHER_MEAN},
        "domain_gene_mean": {"in_its_domain": DOMAIN_MEAN * DOMAIN_FOLD, "elsewhere": DOMAIN_MEAN},
    }


def _unmeasured(slide: ToySlide) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return symbols of genes that no panel measures, means [types, genes] and factors [domains, genes]."""
    owned = [(row, symbol) for row, name in enumerate(CELL_TYPES) for symbol in unmeasured_markers(name)]
    symbols = [symbol for _, symbol in owned] + [unmeasured_domain_gene(name) for name in DOMAINS]
    means = np.full((len(CELL_TYPES), len(symbols)), OTHER_MEAN)
    fold = np.ones((len(DOMAINS), len(symbols)))
    for column, (row, _) in enumerate(owned):
        means[row, column] = MARKER_MEAN
    means[:, len(owned) :] = DOMAIN_MEAN
    if slide.domain_genes:
        fold[:, len(owned) :][np.diag_indices(len(DOMAINS))] = DOMAIN_FOLD
    return symbols, means, fold


def _domain_shares() -> NDArray[np.float64]:
    """Return [types, domains] where cells of a type lie; macrophages come in patches of every domain."""
    lying = MIXTURE.copy()
    lying[:, SENDER] = PATCH_SHARE
    shares: NDArray[np.float64] = (lying / lying.sum(axis=0)).T
    return shares


def _near_sender(types: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = (types == RECEIVER) & (random.random(len(types)) < _NEAR_SENDERS)
    return near


def _ids(slide: ToySlide, panel: Panel, symbols: list[str]) -> tuple[str, ...]:
    more = symbols if slide.symbols_as_ids else [f"ENSG{_FIRST_ID + number:011d}" for number in range(len(symbols))]
    return (*panel.ids[: panel.n_genes], *more)


def _table(cells: SingleCells) -> anndata.AnnData:
    # Imported late: anndata takes longer to import than a slide to plan, and only the cohort has a reference.
    import anndata
    import pandas as pd

    names = [f"single{number:05d}" for number in range(len(cells.types))]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(cells.types, list(CELL_TYPES)),
            "donor": pd.Categorical.from_codes(cells.donors, list(DONORS)),
        },
        index=pd.Index(names, dtype=object),
    )
    var = pd.DataFrame({"symbol": np.array(cells.symbols, dtype=object)}, index=pd.Index(cells.ids, dtype=object))
    return anndata.AnnData(csr_matrix(cells.counts.astype(np.float32)), obs=obs, var=var)
