"""Bootstrap intervals over the right unit, vectorised, and paired tests over the same units.

Scores that are functions of additive tables (contingency, confusion, sums) are resampled as tables: one
multinomial draw a replicate, never a list of cells, so that the cost does not depend on the number of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.metrics import FEWEST_PAIRS
from mistline.tasks.base import Estimate

FEWEST_UNITS = 5  # an interval from fewer donors (or slides) says more about chance than about the method

NOTES = {
    "donor": "intervals resample donors",
    "slide": f"intervals resample slides: fewer than {FEWEST_UNITS} test donors",
    "cell": f"intervals resample cells: fewer than {FEWEST_UNITS} test donors and slides, so they describe the "
    "scatter within these slides only and say nothing of another donor",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What is resampled.

    Args:
        name: donor, slide, gene or cell.
        codes: [n] the unit of each scored item; all zeros for cell, where items are exchangeable.
        names: [n_units] of the units; one for cell.
    """

    name: str
    codes: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def n_units(self) -> int:
        """Number of donors, slides or genes; 1 for cell."""
        return len(self.names)

    def by_name(self, values: NDArray[np.float64]) -> dict[str, float]:
        """Return unit -> its value; nothing where cells are resampled, which are no units to pair."""
        return {} if self.name == "cell" else dict(zip(self.names, values.tolist(), strict=True))

    @property
    def note(self) -> str:
        """A sentence for the result file."""
        return NOTES[self.name]


def choose_unit(donors: NDArray[np.str_], slides: NDArray[np.str_]) -> Unit:
    """Resample donors where there are enough of them, else slides, else cells.

    Args:
        donors: [n] donor of each scored item.
        slides: [n] slide of each scored item.
    """
    for name, values in (("donor", donors), ("slide", slides)):
        found, codes = np.unique(values, return_inverse=True)
        if len(found) >= FEWEST_UNITS:
            return Unit(name, codes.astype(np.int64), tuple(found.tolist()))
    return Unit("cell", np.zeros(len(slides), dtype=np.int64), ("all",))


def tables_by_unit(
    unit: Unit, first: NDArray[np.int64], second: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Count the pairs (first, second) in each unit.

    Args:
        unit: what is resampled.
        first: [n] code of the row of each item, such as its cluster.
        second: [n] code of the column of each item, such as its label.
        shape: (K, L), the numbers of rows and columns.

    Returns:
        [U, K, L] counts.
    """
    flat = np.ravel_multi_index((unit.codes, first, second), (unit.n_units, *shape))
    return np.bincount(flat, minlength=unit.n_units * shape[0] * shape[1]).reshape(unit.n_units, *shape)


def resample_tables(
    unit: Unit, tables: NDArray[np.int64], draws: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw bootstrap replicates of the summed table.

    Args:
        unit: what is resampled.
        tables: [U, K, L] counts of each unit.
        draws: R, number of replicates.
        generator: source of randomness.

    Returns:
        [R, K, L] counts.
    """
    if unit.name == "cell":
        flat = tables.sum(axis=0).reshape(-1)
        total = int(flat.sum())
        return generator.multinomial(total, flat / total, size=draws).reshape(draws, *tables.shape[1:])
    weights = generator.multinomial(unit.n_units, np.full(unit.n_units, 1 / unit.n_units), size=draws)
    return np.tensordot(weights, tables, axes=1)


def interval(value: float, draws: NDArray[np.float64], confidence: float, bounds: tuple[float, float]) -> Estimate:
    """Return the percentile interval of draws that are first centred on the estimate.

    Resampling inflates agreement and correlation near their null by about the size of their own noise, which
    would put a score of zero outside its own interval; centring takes that bias away and changes nothing
    where it is small.

    Args:
        value: the estimate from all the data.
        draws: [R] the same score of each replicate.
        confidence: coverage, such as 0.95.
        bounds: smallest and largest possible value of the score.
    """
    centred = np.clip(draws - draws.mean() + value, *bounds)
    low, high = np.quantile(centred, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))


def bootstrap_tables(
    score: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    table: NDArray[np.int64],
    replicates: NDArray[np.int64],
    confidence: float,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Estimate:
    """Score a table and its replicates.

    Args:
        score: maps [R, K, L] tables to [R] scores.
        table: [K, L] counts of all the data.
        replicates: [R, K, L] as `resample_tables` gives them.
        confidence: coverage of the interval.
        bounds: smallest and largest possible value of the score.
    """
    return interval(float(score(table[None])[0]), score(replicates), confidence, bounds)


def bootstrap_mean(
    per_unit: Mapping[str, float],
    draws: int,
    confidence: float,
    generator: np.random.Generator,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Return the mean over units and its percentile interval; units without a value (NaN) are left out.

    Args:
        per_unit: unit -> value, such as a gene's correlation or a donor's accuracy.
        draws: replicates.
        confidence: coverage of the interval.
        generator: source of randomness.
        bounds: smallest and largest possible value.
    """
    values = np.array([value for value in per_unit.values() if np.isfinite(value)], dtype=np.float64)
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"))
    weights = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    return interval(float(values.mean()), weights @ values / len(values), confidence, bounds)


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired comparison of two rows over the units both have.

    Args:
        n: units with a value in both.
        difference: mean of first minus second.
        p: two-sided Wilcoxon signed-rank test; None where fewer than `FEWEST_PAIRS` units can be paired.
    """

    n: int
    difference: float
    p: float | None


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> Paired:
    """Compare two rows unit by unit."""
    from scipy.stats import wilcoxon

    shared = [unit for unit in first if unit in second and np.isfinite(first[unit]) and np.isfinite(second[unit])]
    differences = np.array([first[unit] - second[unit] for unit in shared], dtype=np.float64)
    mean = float(differences.mean()) if len(shared) else float("nan")
    if len(shared) < FEWEST_PAIRS:
        return Paired(len(shared), mean, None)
    if not differences.any():
        return Paired(len(shared), mean, 1.0)
    return Paired(len(shared), mean, float(wilcoxon(differences).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted by Holm's step-down procedure (1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
