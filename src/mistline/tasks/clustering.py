"""Do clusters of the embedding find the labels? Leiden on the held-out cells, judged by ARI, NMI and AMI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mistline.core.errors import ConfigError, InputError
from mistline.tasks.base import Inputs, Row, Scores, TaskParams

if TYPE_CHECKING:
    import pandas as pd

    from mistline.tasks.stats import Unit

# What needs scikit-learn, igraph or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = True
JUDGES = frozenset(["embedding"])
PROTOCOLS = {
    "fixed_resolution": "one resolution, chosen without labels",
    "oracle": "resolutions swept and the best picked with the labels, for each metric; only for parity with "
    "published figures",
}


class Params(TaskParams):
    """How the held-out cells are clustered."""

    label: str = Field(min_length=1, description="column of the slides' labels that the clusters should find")
    n_neighbors: int = Field(15, ge=2, description="neighbours in the graph, the cell itself included")
    resolution: float = Field(1.0, gt=0, description="of Leiden, for fixed_resolution")
    sweep: tuple[float, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(1, 15)),
        min_length=1,
        description="resolutions tried by oracle, beside `resolution`",
    )
    n_iterations: int = Field(2, ge=1, description="of Leiden")
    max_cells: int = Field(20_000, ge=100, description="test cells drawn, the same for every model")


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Cluster the test cells of every representation and compare with the labels.

    The graph holds labelled and unlabelled cells; only labelled ones are scored. Clusters are held fixed
    while the scored cells are resampled.

    Raises:
        ConfigError: no slide has the label column.
        InputError: too few cells or classes to score.
    """
    from mistline.tasks.controls import DESCRIPTIONS, left_out, representations
    from mistline.tasks.stats import choose_unit

    n_test = inputs.count("test")
    cells = inputs.cells("test", at_most=params.max_cells, seed=params.seed)
    labels, known = _labels(cells, params)
    unit = choose_unit(cells["donor"].to_numpy(dtype=str)[known], cells["slide"].to_numpy(dtype=str)[known])
    swept = params.sweep if protocol == "oracle" else ()
    resolutions = tuple(sorted({*swept, params.resolution}))

    judge = _Judge(params, resolutions, labels, known, unit)
    rows = {
        name: judge.points(points(), DESCRIPTIONS.get(name, ""))
        for name, points in representations(inputs, cells, params.seed).items()
    }
    if inputs.is_controls:
        everything = np.zeros(len(cells), dtype=np.int64)
        rows["one_cluster"] = judge.clusters({0.0: everything}, DESCRIPTIONS["one_cluster"])
    settings = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "oracle": protocol == "oracle",
        "n_test_cells": n_test,
        "n_clustered": len(cells),
        "subsampled": len(cells) < n_test,
        "n_unlabelled": int((~known).sum()),
        "n_classes": int(labels.max()) + 1,
        "interval": f"{unit.note}; the clusters are held fixed",
        "left_out": left_out(inputs, cells) if inputs.is_controls else {},
    }
    return Scores(unit.name, int(known.sum()), rows, settings)


class _Judge:
    """Scores partitions of the same cells against the same labels."""

    def __init__(
        self,
        params: Params,
        resolutions: tuple[float, ...],
        labels: NDArray[np.int64],
        known: NDArray[np.bool_],
        unit: Unit,
    ) -> None:
        self._params, self._resolutions = params, resolutions
        self._labels, self._known, self._unit = labels, known, unit

    def points(self, points: NDArray[np.float32], what: str) -> Row:
        """Cluster [n, D] points at every resolution and score the best one of each metric."""
        from mistline.tasks.leiden import communities, neighbour_graph

        graph = neighbour_graph(points, self._params.n_neighbors)
        found = {
            resolution: communities(graph, resolution, self._params.n_iterations, self._params.seed)
            for resolution in self._resolutions
        }
        return self.clusters(found, what)

    def clusters(self, found: dict[float, NDArray[np.int64]], what: str) -> Row:
        """Score partitions: resolution -> [n] cluster of each cell."""
        from mistline.core.seeds import generator
        from mistline.tasks.agreement import METRICS
        from mistline.tasks.stats import bootstrap_tables, resample_tables

        tables = {resolution: self._tables(clusters) for resolution, clusters in found.items()}
        estimates, per_unit, picked = {}, {}, {}
        for metric, score in METRICS.items():
            best = max(tables, key=lambda resolution: float(score(tables[resolution].sum(axis=0)[None])[0]))
            rng = generator(self._params.seed, "evaluate", "clustering", metric)
            replicates = resample_tables(self._unit, tables[best], self._params.bootstrap, rng)
            estimates[metric] = bootstrap_tables(score, tables[best].sum(axis=0), replicates, self._params.confidence)
            per_unit[metric] = self._unit.by_name(score(tables[best]))
            picked[metric] = best
        sizes = {str(resolution): int(clusters.max()) + 1 for resolution, clusters in found.items()}
        about = {"n_clusters": sizes, "resolution": picked} | ({"what": what} if what else {})
        return Row(estimates, per_unit, about)

    def _tables(self, clusters: NDArray[np.int64]) -> NDArray[np.int64]:
        from mistline.tasks.stats import tables_by_unit

        shape = (int(clusters.max()) + 1, int(self._labels.max()) + 1)
        return tables_by_unit(self._unit, clusters[self._known], self._labels[self._known], shape)


def _labels(cells: pd.DataFrame, params: Params) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ([n] label codes, -1 where unknown; [n] whether known)."""
    import pandas as pd

    column = f"label_{params.label}"
    if column not in cells:
        columns = [str(name) for name in cells.columns]
        have = ", ".join(name.removeprefix("label_") for name in columns if name.startswith("label_")) or "none"
        raise ConfigError(
            f"tasks.clustering.params.label: {params.label}",
            f"no slide has this label column (there are: {have})",
            "name a column of the slides' labels files",
        )
    codes, classes = pd.factorize(cells[column], sort=True)
    known = codes >= 0
    if known.sum() < params.n_neighbors:
        raise InputError(
            column, f"{known.sum()} labelled test cells, {params.n_neighbors} are needed", "label more cells"
        )
    if len(classes) < 2:
        raise InputError(column, f"the labelled test cells are all {classes[0]!r}", "choose labels of several classes")
    return codes.astype(np.int64), known
