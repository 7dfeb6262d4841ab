"""An ablation: rows of one table in an order, each compared with the row it differs from by one part.

What is compared is paired: a donor's (slide's, gene's) score under one row with the same donor's under the other,
means over seeds on both sides. Where a table resamples cells, accuracy and cross-entropy are paired cell by cell,
which describes the scatter within the tested slides and says nothing of another donor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.metrics import direction
from mistline.core.seeds import generator
from mistline.tasks.base import ANSWER, LOSS, MODEL
from mistline.tasks.stats import FEWEST_UNITS, bootstrap_mean, interval, paired

if TYPE_CHECKING:
    import pandas as pd

    from mistline.config.ablation import Ablation

DRAWS, CONFIDENCE = 2000, 0.95
_KEYS = ["slide", "cell_id"]
_BY_CELL = ("accuracy", "log_loss")

Values = Mapping[str, float]  # unit -> value
Row = Mapping[int, Mapping[str, Any]]  # seed -> contents of the evaluation file


@dataclass(frozen=True, slots=True)
class Difference:
    """A row minus the row that it is compared with, on one metric.

    Args:
        unit: what was paired: donor, slide, gene, niche or cell.
        n: how many of them.
        difference: mean over units and seeds.
        low: lower bound of its bootstrap interval; None where fewer than five units can be paired.
        high: upper bound.
        p: two-sided signed-rank test; None for cells, which are no independent pairs.
        sd_seeds: scatter of the difference over the seeds that both rows have.
        is_better: whether the interval lies on the better side of 0, False if on the worse, None if neither.
    """

    unit: str
    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    sd_seeds: float | None
    is_better: bool | None


def ablation(
    settings: Ablation, results: Sequence[Mapping[str, Any]], answers: Sequence[pd.DataFrame]
) -> list[dict[str, Any]]:
    """Return a line a row: its name, step or variant, what it is compared with, and the differences by metric.

    Args:
        settings: rows and their order.
        results: contents of the evaluation files of the table.
        answers: what the rows of each of those files say of each cell.
    """
    rows: dict[str, dict[int, Mapping[str, Any]]] = {}
    tables: dict[tuple[str, int], pd.DataFrame] = {}
    for result, table in zip(results, answers, strict=True):
        rows.setdefault(result["model"], {})[result["seed"]] = result
        tables[result["model"], result["seed"]] = table
    lines = []
    for name, rival in settings.pairs():
        if name not in rows or (rival is not None and rival not in rows):
            continue  # a published method that could not be run
        found = {} if rival is None else _differences(name, rival, rows, tables)
        kind = "step" if name in settings.steps else "variant"
        told = {key: asdict(value) for key, value in found.items()}
        lines.append({"row": name, "kind": kind, "against": rival, "metrics": told})
    return lines


def _differences(
    name: str,
    rival: str,
    rows: Mapping[str, Row],
    tables: Mapping[tuple[str, int], pd.DataFrame],
) -> dict[str, Difference]:
    ours, theirs = rows[name], rows[rival]
    unit = str(next(iter(ours.values()))["unit"])
    metrics = sorted({metric for result in ours.values() for metric in result["metrics"]})
    found = {metric: _of_units(metric, unit, ours, theirs) for metric in metrics}
    if unit == "cell":
        own = [_of_cells([tables[row, seed] for seed in rows[row]]) for row in (name, rival)]
        for metric in _BY_CELL:
            if all(metric in of for of in own):
                found[metric] = _by_cell(metric, own[0][metric], own[1][metric], _by_seed(metric, ours, theirs))
    return {metric: value for metric, value in found.items() if value is not None}


def _of_units(metric: str, unit: str, ours: Row, theirs: Row) -> Difference | None:
    """Pair the units of two rows; None where the metric has no values by unit."""
    first, second = _mean(metric, ours), _mean(metric, theirs)
    test = paired(first, second)
    if not test.n:
        return None
    differences = {key: value - second[key] for key, value in first.items() if key in second}
    low = high = None
    if test.n >= FEWEST_UNITS:
        estimate = bootstrap_mean(differences, DRAWS, CONFIDENCE, generator(0, "ablation", metric))
        low, high = estimate.low, estimate.high
    scatter = _by_seed(metric, ours, theirs)
    return Difference(unit, test.n, test.difference, low, high, test.p, scatter, _better(metric, low, high))


def _mean(metric: str, row: Row) -> Values:
    """Return unit -> mean over the seeds, of units that have a value."""
    values: dict[str, list[float]] = {}
    for result in row.values():
        for key, value in result["per_unit"].get(metric, {}).items():
            if value is not None and np.isfinite(value):
                values.setdefault(key, []).append(value)
    return {key: float(np.mean(own)) for key, own in values.items()}


def _by_seed(metric: str, ours: Row, theirs: Row) -> float | None:
    """Return how the difference of two rows scatters over seeds."""

    def score(result: Mapping[str, Any]) -> float:
        return float(result["metrics"][metric]["value"])

    both = [seed for seed in ours if seed in theirs and metric in theirs[seed]["metrics"]]
    values = [score(ours[seed]) - score(theirs[seed]) for seed in both if metric in ours[seed]["metrics"]]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _of_cells(tables: Sequence[pd.DataFrame]) -> dict[str, pd.Series]:
    """Return metric -> its value for each cell, mean over seeds, where the tables hold it."""
    import pandas as pd

    found: dict[str, list[pd.Series]] = {}
    for table in tables:
        index = pd.MultiIndex.from_frame(table[_KEYS].astype(str))
        if f"{ANSWER}{MODEL}" in table:
            right = table[f"{ANSWER}{MODEL}"].astype(str) == table["truth"].astype(str)
            found.setdefault("accuracy", []).append(pd.Series(right.to_numpy(dtype=float), index))
        if f"{LOSS}{MODEL}" in table:
            found.setdefault("log_loss", []).append(pd.Series(table[f"{LOSS}{MODEL}"].to_numpy(dtype=float), index))
    return {metric: pd.concat(values, axis=1).mean(axis=1) for metric, values in found.items()}


def _by_cell(metric: str, first: pd.Series, second: pd.Series, scatter: float | None) -> Difference:
    """Pair cells; the mean of as many is normal, so replicates are drawn from that."""
    differences: NDArray[np.float64] = (first - second).dropna().to_numpy(dtype=float)
    mean, spread = float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))
    draws = generator(0, "ablation", metric).normal(mean, spread, DRAWS)
    found = interval(mean, draws, CONFIDENCE, (-np.inf, np.inf))
    better = _better(metric, found.low, found.high)
    return Difference("cell", len(differences), mean, found.low, found.high, None, scatter, better)


def _better(metric: str, low: float | None, high: float | None) -> bool | None:
    sign = direction(metric)
    if low is None or high is None or not sign or low <= 0 <= high:
        return None
    return (low > 0) == (sign > 0)
