"""What was imputed, found for a slide and a fold; and the cells on which clusters of truth and prediction are compared.

Whatever is missing, or of another division of the genes, is one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mistline.core.errors import InputError
from mistline.core.seeds import ranked
from mistline.scrna.view import Imputed
from mistline.store.imputed import ImputedGenes
from mistline.tasks.agreement import METRICS
from mistline.tasks.leiden import communities, neighbour_graph

if TYPE_CHECKING:
    from mistline.mist.pair import Pair

COMPONENTS, NEIGHBOURS, RESOLUTION, ITERATIONS = 30, 30, 1.0, 2  # of the clusters
CLUSTERED_CELLS = 2000  # at most, of a slide
_REMEDY = "impute the folds of this dataset again"

Table = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Given:
    """What a method imputed.

    Args:
        imputed: of all slides and folds.
    """

    imputed: ImputedGenes

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"genes imputed by {self.imputed.origin.model}"

    def check(self, protocol: str) -> None:
        """Refuse what was imputed for another protocol.

        Raises:
            InputError: it was.
        """
        made = self.imputed.about.get("protocol", protocol)
        if made != protocol:
            raise InputError(self.name, f"they were imputed for {made}, this is {protocol}", _REMEDY)

    def rows(self, pair: Pair) -> NDArray[np.int64]:
        """Return [n] the rows of a slide's judged cells.

        Raises:
            InputError: other cells were imputed.
        """
        own = np.flatnonzero(self.imputed.slide == pair.slide)
        index = pd.Index(self.imputed.cell_id[own])
        found = index.get_indexer(pd.Index(pair.cell_id)) if index.is_unique else np.full(len(pair.cell_id), -1)
        if (found < 0).any() or len(own) != len(found):
            what = f"{len(own)} cells of slide {pair.slide}, and not the {len(found)} that are judged"
            raise InputError(self.name, what, _REMEDY)
        return np.asarray(own[found], dtype=np.int64)

    def of(self, pair: Pair, fold: int, rows: NDArray[np.int64]) -> Imputed:
        """Return the tested genes of a fold.

        Args:
            pair: the slide.
            fold: number.
            rows: [n] of `rows`.

        Raises:
            InputError: a gene was not imputed, or in another fold.
        """
        tested = pair.tested(fold)
        columns = pd.Index(self.imputed.genes).get_indexer(pd.Index(tested))
        wrong = np.flatnonzero((columns < 0) | (self.imputed.fold[columns] != fold))
        if len(wrong):
            what = f"{tested[int(wrong[0])]} is tested in fold {fold}, and was not imputed there"
            raise InputError(self.name, what, _REMEDY)
        cells = np.ix_(rows, columns)
        mean = self.imputed.mean[cells]
        sd = None if self.imputed.sd is None else self.imputed.sd[cells]
        for table in (mean, sd):
            if table is not None and not np.isfinite(table).all():
                gene = tested[int(np.argmin(np.isfinite(table).all(axis=0)))]
                raise InputError(self.name, f"{gene} has no value in some cells of slide {pair.slide}", _REMEDY)
        return Imputed(mean, sd)

    def cost(self) -> dict[str, float]:
        """Return seconds of all runs together and the largest peak of memory; nothing of a file that tells neither."""
        runs = self.imputed.about.get("runs", [])
        if not runs:
            return {}
        return {
            "seconds": round(float(sum(run["seconds"] for run in runs)), 3),
            "peak_mb": float(max(run["peak_mb"] for run in runs)),
        }


def clustered_cells(cell_id: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """Return the rows of a slide's cells that are clustered, rising."""
    drawn = ranked(cell_id.tolist(), seed, "evaluate", "imputation", "clusters")
    return np.sort(drawn[:CLUSTERED_CELLS])


def clusters(table: Table, seed: int) -> NDArray[np.int64]:
    """Return [n] Leiden's communities of the principal components of [n, W] genes; one where no gene varies."""
    if not np.ptp(table, axis=0).any():
        return np.zeros(len(table), dtype=np.int64)
    n = min(COMPONENTS, *table.shape)
    points = PCA(n, svd_solver="covariance_eigh").fit_transform(table.astype(np.float64))
    return communities(neighbour_graph(points, NEIGHBOURS), RESOLUTION, ITERATIONS, seed)


def agreement(first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, Any]:
    """Return ARI, NMI and AMI of two partitions [n]."""
    table = np.zeros((1, int(first.max()) + 1, int(second.max()) + 1), dtype=np.int64)
    np.add.at(table[0], (first, second), 1)
    return {name: float(score(table)[0]) for name, score in METRICS.items()}
