"""Paired tests of one table: is the best row better than the others, and any model better than the best control?

Every (task, protocol) is one table. A row's values are means over its seeds, unit by unit (donor, slide or
gene); two families of tests are made for each metric, and Holm's procedure holds the error of each family. Of a metric
of which neither more nor less is better nothing is best, and nothing is tested. Where the truth is made of the model
itself (`Scores.own_truth`), no model is ranked beside another: each is tested against the best of its own controls.
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
Row = tuple[str, bool, str]  # name, whether it is a control, the model whose file it is of


def compare(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare all rows of one table.

    Args:
        results: contents of the evaluation files of one task and protocol.

    Returns:
        metric -> {best, rows: {row: {mean, sd_units, sd_seeds, n_units}}, against_best, best_control,
        against_best_control}; of truths of one's own, what is against the best control names it.
    """
    rows = _rows(results)
    alone = any(result.get("own_truth") for result in results)
    metrics = sorted({metric for found in rows.values() for metric in found})
    return {
        metric: _one({name: found[metric] for name, found in rows.items() if metric in found}, metric, alone)
        for metric in metrics
    }


def _rows(results: Sequence[Mapping[str, Any]]) -> dict[Row, dict[str, list[Values]]]:
    """Return row -> metric -> one set of values a seed."""
    rows: dict[Row, dict[str, list[Values]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result["model"] != CONTROLS:
            for metric, values in result["per_unit"].items():
                rows[result["model"], False, result["model"]][metric].append(values)
        for control, found in result["controls_per_unit"].items():
            name = control if result["model"] == CONTROLS else f"{control} ({result['model']})"
            for metric, values in found.items():
                rows[name, True, result["model"]][metric].append(values)
    return rows


def _one(rows: Mapping[Row, list[Values]], metric: str, alone: bool) -> dict[str, Any]:
    means = {row: _mean(seeds) for row, seeds in rows.items() if any(seeds)}
    sign = direction(metric)
    ranked = sorted(means, key=lambda row: (-sign * float(np.nanmean(list(means[row].values()))), row[1], row[0]))
    found: dict[str, Any] = {
        "best": None,
        "rows": {row[0]: _spread(rows[row], means[row]) for row in ranked},
        "against_best": {},
        "best_control": None,
        "against_best_control": {},
    }
    if not means or not sign:
        return found
    controls = [row for row in ranked if row[1]]
    models = [row for row in ranked if not row[1]]
    if alone:
        # The best comes last, and stays.
        rivals = {model: control for model in models for control in reversed(controls) if control[2] == model[2]}
        names = {model[0]: control[0] for model, control in rivals.items()}
        tests = _family(means, rivals)
        return found | {"against_best_control": {name: test | {"control": names[name]} for name, test in tests.items()}}
    found |= {"best": ranked[0][0], "against_best": _family(means, dict.fromkeys(ranked[1:], ranked[0]))}
    if controls:
        against = _family(means, dict.fromkeys(models, controls[0]))
        found |= {"best_control": controls[0][0], "against_best_control": against}
    return found


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


def _family(means: Mapping[Row, Values], rivals: Mapping[Row, Row]) -> dict[str, dict[str, Any]]:
    """Test every row against its rival; Holm over those that could be tested."""
    tests: dict[str, Paired] = {row[0]: paired(means[row], means[rival]) for row, rival in rivals.items()}
    tested = [name for name, test in tests.items() if test.p is not None]
    adjusted = dict(zip(tested, holm([tests[name].p or 0.0 for name in tested]), strict=True))
    return {
        name: {"n": test.n, "difference": test.difference, "p": test.p, "p_holm": adjusted.get(name)}
        for name, test in tests.items()
    }
