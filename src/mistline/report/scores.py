"""Evaluation files gathered into one comparison for each task and protocol: models beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json

HIGHER_IS_BETTER = frozenset(
    [
        *("accuracy", "ami", "ari", "auc", "balanced_accuracy", "f1", "interior_accuracy", "macro_f1"),
        *("macro_precision", "nmi", "pcc", "pearson", "precision", "r2", "recall", "ring_accuracy", "silhouette"),
        *("spearman", "ssim", "top2"),
    ]
)
LOWER_IS_BETTER = frozenset(["ece", "fid", "js", "kl", "log_loss", "mae", "mse", "rmse"])
_KEYS = ("task", "protocol", "model", "seed", "dataset_version", "unit", "n", "metrics", "controls")


@dataclass(frozen=True)
class Value:
    """A score and its interval; over several seeds the mean, with the widest bounds of any seed."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Entry:
    """One row of a comparison."""

    name: str
    is_control: bool
    seeds: tuple[int, ...]
    values: Mapping[str, Value]
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All results of one task under one protocol.

    Attributes:
        metrics: names, in the order of the files.
        entries: models by name, then controls by name.
        unit: what was resampled for the intervals.
        n: items scored.
        settings: the task's settings, of the first file.
    """

    task: str
    protocol: str
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]
    unit: str
    n: int
    settings: Mapping[str, Any]

    @property
    def is_oracle(self) -> bool:
        """Whether labels were used to pick something that a user without labels could not pick."""
        return bool(self.settings.get("oracle")) or "oracle" in self.protocol

    def best(self, metric: str) -> Entry | None:
        """Return the entry that wins, a control included; None when the metric's direction is unknown."""
        scored = [entry for entry in self.entries if metric in entry.values]
        direction = metric_direction(metric)
        if direction == 0 or not scored:
            return None
        return max(scored, key=lambda entry: direction * entry.values[metric].value)

    def verdict(self, metric: str) -> str:
        """Say in a sentence who wins and whether the intervals bear it out."""
        winner = self.best(metric)
        if winner is None:
            return f"{metric}: no winner is marked, for it is not known whether higher is better."
        others = [entry for entry in self.entries if entry.is_control != winner.is_control and metric in entry.values]
        kind = "control" if winner.is_control else "model"
        text = f"{metric}: the {kind} {winner.name} is best ({format_value(winner.values[metric])})"
        if not others:
            return text + ("; no control was run." if kind == "model" else "; no model was run.")
        rival = max(others, key=lambda entry: metric_direction(metric) * entry.values[metric].value)
        rival_kind = "model" if winner.is_control else "control"
        text += f"; the best {rival_kind} is {rival.name} ({format_value(rival.values[metric])})"
        if overlap(winner.values[metric], rival.values[metric]):
            text += "; their intervals overlap, so this may be chance"
        return text + (". No model beats the controls here." if winner.is_control else ".")


def metric_direction(metric: str) -> int:
    """Return 1 where higher is better, -1 where lower is better, 0 where it is not known.

    A name may carry a cut-off or a qualifier: `recall_at_5`, `pcc_top50`, `ari_oracle`.
    """
    for known, direction in ((HIGHER_IS_BETTER, 1), (LOWER_IS_BETTER, -1)):
        if any(metric == name or metric.startswith(f"{name}_") for name in known):
            return direction
    return 0


def format_value(value: Value) -> str:
    """Write `0.412 [0.390, 0.431]`."""
    if value.low is None or value.high is None:
        return f"{value.value:.3f} (no interval)"
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def overlap(first: Value, second: Value) -> bool:
    """Return whether two intervals share a point; a missing interval counts as its value alone."""
    low = max(_bound(first.low, first.value), _bound(second.low, second.value))
    return low <= min(_bound(first.high, first.value), _bound(second.high, second.value))


def read_comparisons(paths: Sequence[Path], dataset_version: str) -> list[Comparison]:
    """Read evaluation files and put those of one task and protocol side by side, by task and protocol.

    Raises:
        InputError: a file lacks a key, or was made from another version of the dataset.
    """
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in paths:
        result = read_json(path)
        _check(path, result, dataset_version)
        grouped.setdefault((result["task"], result["protocol"]), []).append(result)
    return [_compare(grouped[key]) for key in sorted(grouped)]


def _check(path: Path, result: Mapping[str, Any], dataset_version: str) -> None:
    missing = [key for key in _KEYS if key not in result]
    if missing:
        raise InputError(path, f"has no {missing[0]!r}", "run evaluate again")
    if result["dataset_version"] != dataset_version:
        raise InputError(
            path,
            f"was made from dataset {result['dataset_version'][:12]}, not from {dataset_version[:12]}",
            "run evaluate again: results of two versions are never put in one table",
        )


def _compare(results: Sequence[Mapping[str, Any]]) -> Comparison:
    results = sorted(results, key=lambda result: (result["model"], result["seed"]))
    first = results[0]
    for result in results:
        if (result["n"], result["unit"]) != (first["n"], first["unit"]):
            raise InputError(
                f"evaluation of {first['task']}, protocol {first['protocol']}",
                f"{result['model']} was judged on {result['n']} items by {result['unit']}, "
                f"{first['model']} on {first['n']} by {first['unit']}",
                "run evaluate again for all models: what is compared must be judged on the same items",
            )
    metrics = tuple(dict.fromkeys(name for result in results for name in result["metrics"]))
    models: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        models.setdefault(result["model"], []).append(result)
    entries = [_entry(name, False, items) for name, items in sorted(models.items())]
    return Comparison(
        first["task"],
        first["protocol"],
        metrics,
        (*entries, *_controls(results)),
        first["unit"],
        int(first["n"]),
        first.get("settings", {}),
    )


def _controls(results: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return each control once where every file agrees on it, else once a model: it then depends on the model."""
    entries = []
    for name in sorted({name for result in results for name in result["controls"]}):
        having = [result for result in results if name in result["controls"]]
        note = having[0].get("settings", {}).get("controls", {}).get(name, {}).get("what", "")
        by_model: dict[str, list[Mapping[str, Any]]] = {}
        for result in having:
            by_model.setdefault(result["model"], []).append(
                {"seed": result["seed"], "metrics": result["controls"][name]}
            )
        scores = [[item["metrics"] for item in items] for items in by_model.values()]
        if all(score == scores[0] for score in scores):
            entries.append(_entry(name, True, next(iter(by_model.values())), note))
        else:
            entries += [_entry(f"{name} ({model})", True, items, note) for model, items in sorted(by_model.items())]
    return entries


def _entry(name: str, is_control: bool, results: Sequence[Mapping[str, Any]], note: str = "") -> Entry:
    metrics = dict.fromkeys(metric for result in results for metric in result["metrics"])
    values = {}
    for metric in metrics:
        found = [result["metrics"][metric] for result in results if metric in result["metrics"]]
        scored = [item for item in found if item["value"] is not None]
        if scored:
            values[metric] = _pool(scored)
    return Entry(name, is_control, tuple(sorted({result["seed"] for result in results})), values, note)


def _pool(found: Sequence[Mapping[str, Any]]) -> Value:
    lows = [item["low"] for item in found if item.get("low") is not None]
    highs = [item["high"] for item in found if item.get("high") is not None]
    mean = sum(item["value"] for item in found) / len(found)
    return Value(mean, min(lows) if lows else None, max(highs) if highs else None)


def _bound(bound: float | None, value: float) -> float:
    return value if bound is None else bound
