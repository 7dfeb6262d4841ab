"""The vocabulary of meta-cells, and asking it (algorithm 2 of GeST): project a cell, take the nearest centre."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError, system_error
from mistline.core.hdf5 import write_h5ad
from mistline.mist.expression import CountsFile, log_normalise
from mistline.mist.nearest import assign_with_distances
from mistline.mist.pca import Pca, ordered_map
from mistline.mist.vocabulary import Panel

logger = logging.getLogger("mistline.metacells")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Meta-cells of some cells.

    Attributes:
        metacell: int32 [n] row of the vocabulary.
        distance: float32 [n] Euclidean distance to its centre in PCA space.
    """

    metacell: NDArray[np.int32]
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """K meta-cells over T genes, in a PCA space of p dimensions; the most frequent meta-cell first.

    Attributes:
        genes: [T] used, sorted by id.
        pca: the basis.
        target_sum: what a cell's counts of the T genes are scaled to.
        count_share: [T] share of each gene in the counts of the cells fitted on.
        c_pca: float32 [K, p].
        c_expr: float32 [K, T] mean log-normalised expression.
        n_cells: [K] cells fitted on.
        levels: [K] group of each meta-cell, by level (`l1`, `l2`, ...).
        n_dropped: centres dropped for having too few cells.
    """

    genes: Panel
    pca: Pca
    target_sum: float
    count_share: NDArray[np.float64]
    c_pca: NDArray[np.float32]
    c_expr: NDArray[np.float32]
    n_cells: NDArray[np.int64]
    levels: dict[str, NDArray[np.int32]]
    n_dropped: int


class Query:
    """A vocabulary as one slide's panel can ask it.

    Where the panel lacks genes of the vocabulary, scores are the least-squares fit of the measured ones and the
    total is scaled to these genes' share of counts: what was not measured is left out, not taken as zero.

    Args:
        vocabulary: the meta-cells.
        gene_ids: [g] the slide's genes, sorted.
        where: the slide, for errors.

    Raises:
        InputError: the slide measured less than half of the vocabulary's genes.
    """

    def __init__(self, vocabulary: Vocabulary, gene_ids: NDArray[np.str_], where: str) -> None:
        self.vocabulary = vocabulary
        wanted = vocabulary.genes.gene_ids
        self.measured: NDArray[np.bool_] = np.isin(wanted, gene_ids)
        self.n_missing = int((~self.measured).sum())
        if 2 * self.n_missing > len(wanted):
            raise InputError(
                where,
                f"its panel lacks {self.n_missing} of the {len(wanted)} genes of the meta-cells",
                "leave the slide out with only:, or give the cohort slides of one panel",
            )
        if self.n_missing:
            logger.warning("%s: %d of %d meta-cell genes are not on its panel", where, self.n_missing, len(wanted))
        self._columns = np.searchsorted(gene_ids, wanted[self.measured])
        self._take_all = np.array_equal(self._columns, np.arange(len(gene_ids)))
        basis = vocabulary.pca.components[:, self.measured]
        project = np.linalg.pinv(basis) if self.n_missing else basis.T
        self._project = np.ascontiguousarray(project, dtype=np.float32)
        self._offset = vocabulary.pca.mean[self.measured] @ project
        self._target = vocabulary.target_sum * (
            float(vocabulary.count_share[self.measured].sum()) if self.n_missing else 1.0
        )

    def normalise(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return log-normalised float32 CSR [n, measured genes of the vocabulary] from the slide's rows [n, g]."""
        return log_normalise(counts if self._take_all else counts[:, self._columns], self._target)

    def scores(self, expression: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return PCA scores [n, p] of what `normalise` returned."""
        return (expression @ self._project - self._offset).astype(np.float32)

    def assign(self, scores: NDArray[np.float32]) -> Assignment:
        """Return the nearest meta-cells of scores [n, p]."""
        labels, squared = assign_with_distances(scores, self.vocabulary.c_pca)
        return Assignment(labels, np.sqrt(squared).astype(np.float32))


def assign_slide(vocabulary: Vocabulary, counts: Path, threads: int = 1) -> tuple[NDArray[np.str_], Assignment]:
    """Give every cell of a slide its meta-cell (algorithm 2).

    Returns:
        The cells' ids [n] and their meta-cells, in the order of the rows.
    """
    with CountsFile(counts) as file:
        query = Query(vocabulary, file.gene_ids, str(counts))

        def work(block: sparse.csr_matrix) -> Assignment:
            return query.assign(query.scores(query.normalise(block)))

        parts = list(ordered_map(work, (block for _, block in file.blocks()), threads))
        whole = Assignment(
            np.concatenate([part.metacell for part in parts]), np.concatenate([part.distance for part in parts])
        )
        return file.cell_ids(), whole


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write metacells.h5ad: obs are meta-cells, var genes, X C_expr, obsm C_pca, varm the basis."""
    names = [str(i) for i in range(len(vocabulary.n_cells))]
    data = anndata.AnnData(
        X=vocabulary.c_expr,
        obs=pd.DataFrame({"n_cells": vocabulary.n_cells, **vocabulary.levels}, index=pd.Index(names, name="metacell")),
        var=pd.DataFrame(
            {
                "symbol": list(vocabulary.genes.symbols),
                "mean": vocabulary.pca.mean,
                "count_share": vocabulary.count_share,
            },
            index=pd.Index(list(vocabulary.genes.gene_ids), name="gene_id"),
        ),
        obsm={"X_pca": vocabulary.c_pca},
        varm={"PCs": vocabulary.pca.components.T},
        uns={
            "target_sum": vocabulary.target_sum,
            "explained_variance": vocabulary.pca.explained_variance,
            "total_variance": vocabulary.pca.total_variance,
            "n_dropped": vocabulary.n_dropped,
        },
    )
    write_h5ad(path, data)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read metacells.h5ad.

    Raises:
        InputError: the file is missing or not what `write_vocabulary` writes.
    """
    try:
        data = anndata.read_h5ad(path)
        pca = Pca(
            mean=data.var["mean"].to_numpy(),
            components=np.ascontiguousarray(data.varm["PCs"].T),
            explained_variance=data.uns["explained_variance"],
            total_variance=float(data.uns["total_variance"]),
        )
        return Vocabulary(
            genes=Panel(np.asarray(data.var_names, dtype=str), np.asarray(data.var["symbol"], dtype=str)),
            pca=pca,
            target_sum=float(data.uns["target_sum"]),
            count_share=data.var["count_share"].to_numpy(),
            c_pca=np.ascontiguousarray(data.obsm["X_pca"]),
            c_expr=np.asarray(data.X),
            n_cells=data.obs["n_cells"].to_numpy(),
            levels={name: data.obs[name].to_numpy() for name in data.obs if name != "n_cells"},
            n_dropped=int(data.uns["n_dropped"]),
        )
    except FileNotFoundError:
        raise InputError(path, "no such file", "run fit_metacells") from None
    except (OSError, KeyError) as error:
        told = system_error(error, path) if isinstance(error, OSError) else None
        raise told or InputError(path, f"not a meta-cell vocabulary ({error})", "run fit_metacells again") from None
