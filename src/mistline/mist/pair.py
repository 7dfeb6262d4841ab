"""A slide and the single-cell reference as a pair, read from the files of the line.

Genes are divided by `genes.parquet`: a row a slide, shared gene and fold, with its part (train, val or test). Values of
tested genes lie behind a `GuardedMatrix` until they are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.core.seeds import ranked
from mistline.mist.expression import CountsFile, log_normalise
from mistline.scrna.folds import GENE_COLUMNS, by_expression, check_division
from mistline.scrna.genes import expressed, is_constant, variances
from mistline.scrna.guarded import GuardedMatrix, log_normalised
from mistline.scrna.match import Names
from mistline.scrna.view import TARGET_SUM, TrainView


@dataclass(frozen=True, slots=True)
class Reference:
    """Single cells.

    Args:
        cell_id: [m].
        genes: [R] ids.
        symbols: [R].
        values: what `counts` holds: counts, normalised or log.
        counts: CSR [m, R].
    """

    cell_id: NDArray[np.str_]
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    values: str
    counts: sparse.csr_matrix

    def take(self, genes: Sequence[str]) -> sparse.csr_matrix:
        """Return CSR [m, len(genes)] as stored."""
        place = {gene: number for number, gene in enumerate(self.genes)}
        return sparse.csr_matrix(self.counts[:, [place[gene] for gene in genes]])

    def logs(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [m, len(genes)] log-normalised; counts by the sum of all genes of the reference."""
        total = _totals(self.counts) if self.values == "counts" else None
        return log_normalised(self.take(genes), self.values, TARGET_SUM, total)

    def names(self) -> Names:
        """Return what it calls its genes."""
        return Names(self.genes, self.symbols)

    def constant(self) -> frozenset[str]:
        """Return the ids of the genes that have one value in all cells."""
        return frozenset(self.genes[place] for place in np.flatnonzero(is_constant(self.counts)).tolist())

    def by_expression(self) -> tuple[str, ...]:
        """Return the ids in rising order of how many cells express a gene, then of how much."""
        return by_expression(self.genes, *expressed(self.counts))

    def variances(self) -> NDArray[np.float64]:
        """Return [R] the variance of each gene's log-normalised values over the cells."""
        if self.values == "counts":
            return variances(log_normalise(self.counts, TARGET_SUM))
        return variances(self.counts.log1p() if self.values == "normalised" else self.counts)


def read_reference(path: Path) -> Reference:
    """Read what `read-reference` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    with CountsFile(path) as file:
        return Reference(
            file.cell_ids(),
            tuple(file.gene_ids.tolist()),
            tuple(file.symbols.tolist()),
            file.values,
            file.rows(0, file.n_cells),
        )


def read_genes(path: Path) -> pd.DataFrame:
    """Read `genes.parquet`: slide, gene, symbol, reference_gene, fold, part.

    Raises:
        InputError: the file is missing or damaged, or its folds are no division of the genes.
    """
    table = read_parquet(path, GENE_COLUMNS, "fold-genes")
    check_division(path, table)
    return table


@dataclass(frozen=True, slots=True)
class Pair:
    """A slide's drawn cells and the reference.

    Args:
        slide: name.
        cell_id: [n] drawn, in the order of the slide.
        xy_um: [n, 2]; NaN where the slide has no places.
        values: what the slide holds: counts, normalised or log.
        guarded: [n, T] over the shared genes.
        reference: the single cells.
        genes: rows of `genes.parquet` of this slide.
    """

    slide: str
    cell_id: NDArray[np.str_]
    xy_um: NDArray[np.float64]
    values: str
    guarded: GuardedMatrix
    reference: Reference
    genes: pd.DataFrame

    @property
    def folds(self) -> tuple[int, ...]:
        """Return the numbers of the folds."""
        return tuple(sorted(self.genes["fold"].unique().tolist()))

    def tested(self, fold: int) -> tuple[str, ...]:
        """Return the ids of a fold's tested genes, in order."""
        return self._of(fold, "test")

    def view(self, fold: int, *, canary: bool = False) -> TrainView:
        """Return what a method is given in a fold: its tested genes are in none of the arrays.

        Args:
            fold: number.
            canary: whether NaN stands for every tested value: whoever reads one shows it in what comes out.
        """
        own = self.genes[self.genes["fold"] == fold]
        wanted = own[own["part"] == "test"]
        read = own[own["part"] != "test"]
        guarded = self.guarded.close(wanted["gene"].tolist())
        if canary:
            guarded = guarded.with_canary()
        return make_view(self, guarded, read, wanted["gene"].tolist(), wanted["reference_gene"].tolist())

    def truth(self, fold: int) -> NDArray[np.float32]:
        """Return float32 [n, W] measured values of a fold's tested genes, for scoring.

        They are scaled as the training genes of the fold are: by the sum over these.
        """
        total = _totals(self.guarded.reveal(self._of(fold, "train", "val")))
        return log_normalised(self.guarded.reveal(self.tested(fold)), self.values, TARGET_SUM, total)

    def _of(self, fold: int, *parts: str) -> tuple[str, ...]:
        own = self.genes[(self.genes["fold"] == fold) & self.genes["part"].isin(parts)]
        return tuple(own["gene"].tolist())


def make_view(
    pair: Pair, guarded: GuardedMatrix, read: pd.DataFrame, wanted: Sequence[str], wanted_reference: Sequence[str]
) -> TrainView:
    """Return a view of open genes.

    Args:
        pair: the cells and the reference.
        guarded: its matrix, with the wanted genes closed where the slide measures them.
        read: gene, reference_gene and part (train or val) of the genes that the method may read.
        wanted: ids of wanted genes.
        wanted_reference: [W] the same in the reference.
    """
    matrix, reference = guarded.take(read["gene"].tolist()), pair.reference
    has_counts = reference.values == "counts"
    both = [*read["reference_gene"], *wanted_reference]
    logs = reference.logs(both)
    raw = reference.take(both) if has_counts else None
    return TrainView(
        slide=pair.slide,
        cell_id=pair.cell_id,
        genes=tuple(read["gene"].tolist()),
        is_val=(read["part"] == "val").to_numpy(),
        spatial=log_normalised(matrix, pair.values, TARGET_SUM),
        counts=matrix if pair.values == "counts" else None,
        xy_um=pair.xy_um,
        reference=logs[:, : len(read)],
        reference_counts=None if raw is None else raw[:, : len(read)],
        wanted=tuple(wanted),
        wanted_reference=logs[:, len(read) :],
        wanted_counts=None if raw is None else raw[:, len(read) :],
    )


def read_names(counts: Path) -> Names:
    """Read what a slide calls its genes.

    Raises:
        InputError: its counts.h5ad is missing or damaged.
    """
    with CountsFile(counts) as file:
        return Names(tuple(file.gene_ids.tolist()), tuple(file.symbols.tolist()))


def draw_cells(cell_id: Sequence[str], at_most: int | None) -> NDArray[np.int64]:
    """Return the rows of the cells that are judged: all, or those whose ids come first by hash; rising."""
    if at_most is None or len(cell_id) <= at_most:
        return np.arange(len(cell_id))
    return np.sort(np.asarray(ranked(cell_id, 0, "imputation")[:at_most], dtype=np.int64))


def open_pair(
    slide: str, cells: Path, counts: Path, reference: Reference, genes: pd.DataFrame, at_most: int | None
) -> Pair:
    """Read a slide's drawn cells.

    Args:
        slide: name.
        cells: its cells.parquet.
        counts: its counts.h5ad.
        reference: the single cells.
        genes: `genes.parquet`, of all slides.
        at_most: cells that are drawn; None for all.

    Raises:
        InputError: the slide has no divided gene, or a file is damaged.
    """
    own = genes[genes["slide"] == slide].reset_index(drop=True)
    if own.empty:
        raise InputError(f"slide {slide}", "no gene of it was divided into folds", "run fold-genes again")
    shared = sorted(own["gene"].unique().tolist())
    with CountsFile(counts) as file:
        ids, values = file.cell_ids(), file.values
        place = {gene: number for number, gene in enumerate(file.gene_ids.tolist())}
        lost = [gene for gene in shared if gene not in place]
        if lost:
            raise InputError(counts, f"gene {lost[0]} is not measured here", "run fold-genes again")
        rows = draw_cells(ids.tolist(), at_most)
        matrix = file.take(rows)[:, [place[gene] for gene in shared]]
    return Pair(slide, ids[rows], _places(cells, ids[rows]), values, GuardedMatrix(matrix, shared), reference, own)


def open_pairs(
    files: Mapping[str, tuple[Path, Path]], reference: Path, genes: Path, at_most: int | None
) -> Iterator[Pair]:
    """Yield the judged slides one after the other, in the order of `files`.

    Args:
        files: slide -> its cells.parquet and counts.h5ad; slides whose genes were not divided are left out.
        reference: what `read-reference` wrote.
        genes: what `fold-genes` wrote.
        at_most: cells of a slide that are drawn; None for all.

    Raises:
        InputError: a slide whose genes were divided is not among the files, or a file is damaged.
    """
    divided = read_genes(genes)
    lost = sorted(set(divided["slide"]) - set(files))
    if lost:
        raise InputError(genes, f"slide {lost[0]} is not among those given", "run fold-genes again")
    single = read_reference(reference)
    for slide in files:
        if (divided["slide"] == slide).any():
            yield open_pair(slide, *files[slide], single, divided, at_most)


def _places(path: Path, cell_id: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return float64 [n, 2] where cells lie."""
    table = read_parquet(path, ["cell_id", "x_um", "y_um"], "read-cells").set_index("cell_id")
    row = table.index.get_indexer(pd.Index(cell_id.tolist()))
    if (row < 0).any():
        raise InputError(path, f"cell {cell_id[int(np.argmax(row < 0))]} is not in it", "run read-cells again")
    return table.to_numpy(dtype=np.float64)[row]


def _totals(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
