"""Dividing genes into folds, the same for all slides, without a look at what a slide measured of them.

Genes are sorted by how often and how much the single cells express them, and each run of as many neighbours as there
are folds is dealt to the folds: so every fold tests genes that are rare and genes that are common.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator

GENE_COLUMNS = ("slide", "gene", "symbol", "reference_gene", "fold", "part")
PARTS = ("train", "val", "test")
_LEAST = {"train": 2, "val": 1, "test": 1}  # genes of a slide in every fold
_AGAIN = "run fold-genes again"


def by_expression(genes: Sequence[str], detection: NDArray[np.float64], mean: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the genes of the reference in rising order of their detection rate, then of their mean.

    Args:
        genes: [R] ids.
        detection: [R] share of the single cells that express a gene.
        mean: [R] over the single cells.
    """
    order = np.lexsort((np.array(genes, dtype=np.str_), mean, detection))
    return tuple(genes[place] for place in order.tolist())


def divide(shared: pd.DataFrame, ordered: Sequence[str], n_folds: int, val_share: float, seed: int) -> pd.DataFrame:
    """Return the columns GENE_COLUMNS: a row a slide, gene and fold.

    Args:
        shared: slide, gene, symbol and reference_gene of the genes that each slide shares with the reference.
        ordered: ids of genes of the reference, see `by_expression`; those that no slide shares are passed over.
        n_folds: each gene is tested in one of them.
        val_share: of the genes of a fold that are not tested, those for stopping early.
        seed: of the draw.

    Raises:
        InputError: there are too few genes for so many folds.
    """
    known = set(shared["reference_gene"])
    genes = [gene for gene in ordered if gene in known]
    if len(genes) < 2 * n_folds:
        what = f"{len(genes)} genes cannot be divided into {n_folds} folds"
        raise InputError("fold-genes", what, "ask for fewer folds, or give slides that share more genes")
    fold = dict(zip(genes, _deal(len(genes), n_folds, seed).tolist(), strict=True))
    found = []
    for number in range(n_folds):
        open_genes = [gene for gene in genes if fold[gene] != number]
        part = dict.fromkeys(genes, "test") | dict.fromkeys(open_genes, "train")
        part |= dict.fromkeys(draw_validation(open_genes, val_share, seed, "fold_genes", number), "val")
        found.append(shared.assign(fold=number, part=shared["reference_gene"].map(part)))
    return pd.concat(found).sort_index(kind="stable").reset_index(drop=True)[list(GENE_COLUMNS)]


def _deal(n_genes: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return [n_genes] the fold of each; every run of `n_folds` genes is spread over all of them."""
    hands = [generator(seed, "fold_genes", "deal", start).permutation(n_folds) for start in range(0, n_genes, n_folds)]
    return np.concatenate(hands)[:n_genes].astype(np.int64)


def draw_validation(ordered: Sequence[str], share: float, seed: int, *names: str | int) -> tuple[str, ...]:
    """Return about this share of the genes, at least one, spread over their order.

    Args:
        ordered: see `by_expression`.
        share: of them.
        seed: of the draw.
        names: of its purpose.
    """
    n = min(max(1, round(share * len(ordered))), len(ordered))
    draw = generator(seed, *names, "val")
    return tuple(ordered[int(draw.choice(run))] for run in np.array_split(np.arange(len(ordered)), n))


def check_division(where: str | Path, table: pd.DataFrame) -> None:
    """Refuse folds in which a tested gene could be read, or that leave a method nothing to fit.

    Raises:
        InputError: a gene has two parts in a fold, is not tested exactly once or is another part on another slide;
            or a slide has too few genes of a part in a fold.
    """
    unknown = sorted(set(table["part"]) - set(PARTS))
    if unknown or table.empty:
        raise InputError(where, f"unknown part {unknown[0]!r}" if unknown else "it names no gene", _AGAIN)
    for name in ("gene", "reference_gene"):
        doubled = table.duplicated(["slide", name, "fold"])
        if doubled.any():
            raise InputError(where, f"{table.loc[doubled, name].iloc[0]} has two parts in one fold", _AGAIN)
    n_folds = table["fold"].nunique()
    tested = table["part"] == "test"
    times = tested.groupby([table["slide"], table["gene"]]).agg(["sum", "size"])
    wrong = times[(times["sum"] != 1) | (times["size"] != n_folds)]
    if len(wrong):
        slide, gene = wrong.index[0]
        raise InputError(where, f"{gene} of slide {slide} is not tested in exactly one of {n_folds} folds", _AGAIN)
    parts = table.groupby(["reference_gene", "fold"])["part"].nunique()
    if (parts > 1).any():
        gene = parts.index[int((parts > 1).argmax())][0]
        raise InputError(where, f"{gene} is tested on one slide while another one shows it", _AGAIN)
    _check_sizes(where, table)


def _check_sizes(where: str | Path, table: pd.DataFrame) -> None:
    sizes = table.groupby(["slide", "fold", "part"]).size().unstack("part", fill_value=0)
    for part, least in _LEAST.items():
        few = sizes.reindex(columns=list(PARTS), fill_value=0)[part] < least
        if few.any():
            slide, fold = sizes.index[int(few.argmax())]
            what = f"slide {slide} has fewer than {least} genes of the part {part} in fold {fold}"
            remedy = (
                "ask for fewer folds or raise min_shared, or leave this slide out of tasks.imputation.params.slides"
            )
            raise InputError(where, what, remedy)
