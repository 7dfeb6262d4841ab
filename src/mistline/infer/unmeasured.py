"""Genes that no slide measures: which of them are added, from which view, and how they are written for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from mistline.config.imputation import Imputation
from mistline.core.errors import ConfigError
from mistline.core.hdf5 import write_h5ad
from mistline.mist.pair import Reference, make_view, open_pair, read_names
from mistline.scrna.folds import draw_validation
from mistline.scrna.match import Names, measured, resolve, share
from mistline.scrna.view import TrainView
from mistline.store.imputed import ImputedGenes

_VAL_SHARE = 0.15  # of the shared genes, those on which a method may stop early
_SEED = 0  # of their draw: the same for every model and slide


def unmeasured(reference: Reference, panels: Sequence[Names], asked: Imputation) -> Names:
    """Return the genes of the reference to add: those asked for, or the most variable ones.

    Args:
        reference: the single cells.
        panels: genes of every slide of the run.
        asked: the section imputation.

    Raises:
        ConfigError: a gene that is asked for is unknown, measured, or the same in all single cells; or there is none.
    """
    names = reference.names()
    taken = frozenset[str]().union(*(measured(panel, names) for panel in panels))
    constant = reference.constant()
    if asked.genes:
        genes = resolve(asked.genes, names, taken)
        same = [gene for gene in genes if gene in constant]
        if same:
            what = f"{same[0]} is the same in all single cells"
            raise ConfigError("imputation.genes", what, "leave it out: nothing can be said of it")
    else:
        free = np.array([gene not in taken and gene not in constant for gene in names.ids], dtype=bool)
        rows = np.flatnonzero(free)
        order = np.lexsort((np.array(names.ids, dtype=np.str_)[rows], -reference.variances()[rows]))
        genes = tuple(names.ids[row] for row in rows[order[: asked.n_genes]].tolist())
    if not genes:
        what = "the slides of this run measure every gene of the reference that varies"
        raise ConfigError("imputation.reference", what, "give single cells with more genes, or no imputation.models")
    symbol = dict(zip(names.ids, names.symbols, strict=True))
    return Names(genes, tuple(symbol[gene] for gene in genes))


def whole_view(
    slide: str, cells: Path, counts: Path, reference: Reference, wanted: Names, min_shared: int
) -> TrainView:
    """Return all cells of a slide, with all genes that it shares with the reference.

    Args:
        slide: name.
        cells: its cells.parquet.
        counts: its counts.h5ad.
        reference: the single cells.
        wanted: genes that it does not measure.
        min_shared: fewest genes that it must share.

    Raises:
        InputError: it shares too few genes, or a file is damaged.
    """
    shared = share(f"slide {slide}", read_names(counts), reference.names(), reference.constant(), min_shared)
    own = set(shared.reference_genes)
    ordered = [gene for gene in reference.by_expression() if gene in own]
    val = set(draw_validation(ordered, _VAL_SHARE, _SEED, "impute_slide"))
    genes = pd.DataFrame(
        {
            "slide": slide,
            "gene": shared.genes,
            "symbol": shared.symbols,
            "reference_gene": shared.reference_genes,
            "fold": -1,
            "part": ["val" if gene in val else "train" for gene in shared.reference_genes],
        }
    )
    pair = open_pair(slide, cells, counts, reference, genes, None)
    return make_view(pair, pair.guarded, pair.genes, wanted.ids, wanted.ids)


def write_annotated(path: Path, own: ImputedGenes, reference: str) -> None:
    """Write imputed genes as an h5ad: X is the mean, layers["sd"] how unsure it is; no measured value is in it.

    Args:
        path: the file.
        own: genes of one slide.
        reference: hash of the single cells they are from.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    data = anndata.AnnData(
        X=own.mean,
        obs=pd.DataFrame(index=pd.Index(own.cell_id, name="cell_id", dtype=object)),
        var=pd.DataFrame(
            {"symbol": pd.Series(own.symbols, dtype=object).to_numpy()},
            index=pd.Index(own.genes, name="gene_id", dtype=object),
        ),
        layers={} if own.sd is None else {"sd": own.sd},
        uns={"imputed": {"model": own.origin.model, "seed": own.origin.seed, "reference": reference}},
    )
    write_h5ad(path, data, compression="gzip", compression_opts=1)
