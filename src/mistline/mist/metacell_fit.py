"""Fitting the vocabulary of meta-cells (algorithm 1 of GeST) on training cells only.

Log-normalise the genes that every training slide measured, PCA, k-means in its space; a centre keeps the mean
scores (C_pca) and the mean expression (C_expr) of its cells, and each coarser level groups the centres anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.config.metacells import Metacells
from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.mist.expression import CountsFile, log_normalise, totals_of
from mistline.mist.kmeans import Clusters, Settings, fit_kmeans, group_sums
from mistline.mist.metacells import Vocabulary
from mistline.mist.nearest import assign
from mistline.mist.pca import fit_pca, ordered_map
from mistline.mist.vocabulary import Panel, shared_genes, unite

MIN_GENES = 10


@dataclass(frozen=True, slots=True)
class Source:
    """One slide's counts and which of its cells are training cells.

    Attributes:
        slide: its name.
        counts: counts.h5ad.
        is_train: [n] in the order of its rows.
    """

    slide: str
    counts: Path
    is_train: NDArray[np.bool_]


def fit_vocabulary(sources: Sequence[Source], settings: Metacells, seed: int, threads: int = 1) -> Vocabulary:
    """Fit the vocabulary (algorithm 1).

    Args:
        sources: every slide; those without training cells are not opened.
        settings: sizes of everything.
        seed: the run's seed.
        threads: does not change the result.

    Raises:
        InputError: too few training cells, shared genes or lasting centres.
    """
    training = [source for source in sources if source.is_train.any()]
    if not training:
        raise InputError("meta-cells", "no slide has training cells", "look at the splits section and splits.json")
    genes = _training_genes(training)
    counts = list(_draw(training, genes, settings.max_fit_cells, seed))
    _check_number(sum(block.shape[0] for block in counts), settings)
    per_gene = sum(np.asarray(block.sum(axis=0, dtype=np.int64)).ravel() for block in counts)
    target_sum = float(np.median(np.concatenate([totals_of(block) for block in counts])))
    if target_sum == 0:
        raise InputError("meta-cells", "most training cells have no count of the shared genes", "check the panels")
    blocks = [log_normalise(block, target_sum) for block in counts]
    pca = fit_pca(blocks, settings.n_components, threads)
    scores = np.concatenate(list(ordered_map(pca.scores, blocks, threads)))
    run = Settings(settings.n_restarts, settings.n_iterations, seed, threads)
    c_pca, labels = _lasting(scores, fit_kmeans(scores, settings.n_metacells, run, "metacells"), settings, threads)
    n_cells = np.bincount(labels, minlength=len(c_pca))
    return Vocabulary(
        genes=genes,
        pca=pca,
        target_sum=target_sum,
        count_share=per_gene / per_gene.sum(),
        c_pca=c_pca,
        c_expr=_mean_expression(blocks, labels, n_cells),
        n_cells=n_cells,
        levels=_levels(c_pca, settings, run),
        n_dropped=settings.n_metacells - len(c_pca),
    )


def _check_number(n: int, settings: Metacells) -> None:
    if n < settings.n_metacells:
        raise InputError(
            "metacells.n_metacells",
            f"{settings.n_metacells} centres were asked for, but there are {n} training cells",
            f"set it to {max(1, n // settings.min_cells)} or less",
        )


def _training_genes(training: Sequence[Source]) -> Panel:
    """Return the genes that every training slide measured."""
    panels: dict[str, Panel] = {}
    for source in training:
        with CountsFile(source.counts) as file:
            panels[source.slide] = Panel(file.gene_ids, file.symbols)
            if file.n_cells != len(source.is_train):
                raise InputError(source.counts, "it has other cells than the split file", "run make_splits again")
    unite(panels)  # refuses namespaces and symbols that contradict each other
    genes = shared_genes(list(panels.values()))
    if len(genes.gene_ids) < MIN_GENES:
        smallest = min(panels, key=lambda slide: (len(panels[slide].gene_ids), slide))
        raise InputError(
            "meta-cells",
            f"only {len(genes.gene_ids)} genes were measured on each of the {len(panels)} training slides, {MIN_GENES}"
            f" are needed (smallest panel: {smallest}, {len(panels[smallest].gene_ids)} genes)",
            "restrict the run with only: to slides whose panels overlap",
        )
    return genes


def _draw(training: Sequence[Source], genes: Panel, limit: int, seed: int) -> Iterator[sparse.csr_matrix]:
    """Yield the counts of at most `limit` training cells, drawn evenly over the cohort, in the order of the slides."""
    rows = [np.flatnonzero(source.is_train) for source in training]
    total = sum(map(len, rows))
    chosen = np.ones(total, dtype=bool)
    if total > limit:
        chosen[:] = False
        chosen[generator(seed, "fit_metacells", "draw").choice(total, size=limit, replace=False)] = True
    first = 0
    for source, of_slide in zip(training, rows, strict=True):
        wanted = of_slide[chosen[first : first + len(of_slide)]]
        first += len(of_slide)
        with CountsFile(source.counts) as file:
            columns = np.searchsorted(file.gene_ids, genes.gene_ids)
            for start, block in file.blocks():
                inside = wanted[(wanted >= start) & (wanted < start + block.shape[0])] - start
                if len(inside):
                    yield block[inside][:, columns]


def _lasting(
    scores: NDArray[np.float32], clusters: Clusters, settings: Metacells, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Drop small centres, give their cells to the others; return C_pca and the cells' labels, largest first."""
    sizes = np.bincount(clusters.labels, minlength=len(clusters.centres))
    kept = np.flatnonzero(sizes >= settings.min_cells)
    if len(kept) < max(settings.levels, default=1) or not len(kept):
        raise InputError(
            "meta-cells",
            f"{len(kept)} of {len(sizes)} centres hold {settings.min_cells} training cells or more, and the"
            f" levels group them into {', '.join(map(str, settings.levels))}",
            "lower metacells.n_metacells, metacells.min_cells or metacells.levels",
        )
    labels = assign(scores, clusters.centres[kept], threads) if len(kept) < len(sizes) else clusters.labels
    sizes = np.bincount(labels, minlength=len(kept))
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(kept), dtype=np.int32)
    rank[order] = np.arange(len(kept), dtype=np.int32)
    labels = rank[labels]
    return (group_sums(scores, labels, len(kept)) / sizes[order][:, None]).astype(np.float32), labels


def _mean_expression(
    blocks: Sequence[sparse.csr_matrix], labels: NDArray[np.int32], n_cells: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return C_expr [K, T]."""
    sums = np.zeros((len(n_cells), blocks[0].shape[1]))
    first = 0
    for block in blocks:
        sums += group_sums(block, labels[first : first + block.shape[0]], len(n_cells))
        first += block.shape[0]
    return (sums / n_cells[:, None]).astype(np.float32)


def _levels(c_pca: NDArray[np.float32], settings: Metacells, run: Settings) -> dict[str, NDArray[np.int32]]:
    """Group the centres into each level's number of groups, independently of the other levels."""
    return {
        f"l{i}": fit_kmeans(c_pca, size, run, f"level {i}").labels for i, size in enumerate(settings.levels, start=1)
    }
