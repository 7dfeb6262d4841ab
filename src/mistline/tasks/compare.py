"""Paired tests of one table: is the best row better than the others, and any model better than the best control?

Every (task, protocol) is one table. A row's values are means over its seeds, unit by unit (donor, slide or
gene); two families of tests are made for each metric, and Holm's procedure holds the error of each family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mistline.core.metrics import direction
from mistline.tasks.base import CONTROLS
from mistline.tasks.stats import Paired, holm, paired

Values = Mapping[str, float]  # unit -> value


def compare(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare all rows of one table.

    Args:
        results: contents of the evaluation files of one task and protocol.

    Returns:
        metric -> {best, rows: {row: {mean, sd_units, sd_seeds, n_units}}, against_best, against_best_control}.
    """
    rows = _rows(results)
    metrics = sorted({metric for found in rows.values() for metric in found})
    return {
        metric: _one({name: found[metric] for name, found in rows.items() if metric in found}, metric)
        for metric in metrics
    }


def _rows(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, bool], dict[str, list[Values]]]:
    """Return (row, whether it is a control) -> metric -> one set of values a seed."""
    rows: dict[tuple[str, bool], dict[str, list[Values]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result["model"] != CONTROLS:
            for metric, values in result["per_unit"].items():
                rows[result["model"], False][metric].append(values)
        for control, found in result["controls_per_unit"].items():
            name = control if result["model"] == CONTROLS else f"{control} ({result['model']})"
            for metric, values in found.items():
                rows[name, True][metric].append(values)
    return rows


def _one(rows: Mapping[tuple[str, bool], list[Values]], metric: str) -> dict[str, Any]:
    means = {row: _mean(seeds) for row, seeds in rows.items() if any(seeds)}
    if not means:
        return {"best": None, "rows": {}, "against_best": {}, "against_best_control": {}}
    sign = direction(metric) or 1
    ranked = sorted(means, key=lambda row: (-sign * float(np.nanmean(list(means[row].values()))), row[1], row[0]))
    controls = [row for row in ranked if row[1]]
    models = [row for row in ranked if not row[1]]
    return {
        "best": ranked[0][0],
        "rows": {name: _spread(rows[name, control], means[name, control]) for name, control in ranked},
        "against_best": _family(means, ranked[0], ranked[1:]),
        "best_control": controls[0][0] if controls else None,
        "against_best_control": _family(means, controls[0], models) if controls else {},
    }


def _mean(seeds: Sequence[Values]) -> Values:
    units = {unit for values in seeds for unit in values}
    return {unit: float(np.mean([values[unit] for values in seeds if unit in values])) for unit in sorted(units)}


def _spread(seeds: Sequence[Values], mean: Values) -> dict[str, Any]:
    """Return how a row scatters over its units and, apart from that, over its seeds."""
    over_seeds = [float(np.nanmean(list(values.values()))) for values in seeds if values]
    values = np.array(list(mean.values()))
    return {
        "mean": float(np.nanmean(values)),
        "sd_units": float(np.nanstd(values, ddof=1)) if len(values) > 1 else None,
        "sd_seeds": float(np.std(over_seeds, ddof=1)) if len(over_seeds) > 1 else None,
        "n_units": len(values),
        "n_seeds": len(over_seeds),
    }


def _family(
    means: Mapping[tuple[str, bool], Values], reference: tuple[str, bool], others: Sequence[tuple[str, bool]]
) -> dict[str, Any]:
    """Test every other row against the reference; Holm over those that could be tested."""
    tests: dict[str, Paired] = {row[0]: paired(means[row], means[reference]) for row in others}
    tested = [name for name, test in tests.items() if test.p is not None]
    adjusted = dict(zip(tested, holm([tests[name].p or 0.0 for name in tested]), strict=True))
    return {
        name: {"n": test.n, "difference": test.difference, "p": test.p, "p_holm": adjusted.get(name)}
        for name, test in tests.items()
    }
