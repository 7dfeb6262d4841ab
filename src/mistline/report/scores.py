"""Evaluation files gathered into one comparison for each task and protocol: models beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import stdev
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.core.metrics import direction, place

_TIE = 1e-9
_CONTROLS = "controls"  # the file that holds what needs no model, and a file's rows of that kind
_CEILINGS = "ceilings"  # a file's rows of that kind
_NOT_RUN = "not_run"  # in the file of a model that could not be run: why
_KEYS = ("task", "protocol", "model", "seed", "dataset_version", "unit", "n", "metrics", "controls")


@dataclass(frozen=True)
class Value:
    """A score and its interval; over several seeds the mean, with the widest bounds of any seed.

    Attributes:
        value: the score.
        low, high: bounds of the interval; None where there is none.
        sd: standard deviation over seeds; None for fewer than two.
    """

    value: float
    low: float | None
    high: float | None
    sd: float | None = None


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Attributes:
        name: of the model's run or the control.
        is_control: whether it is a control.
        seeds: of its trainings.
        values: metric -> score.
        note: what it is.
        details: what the task tells of it beside the metrics, seed by seed.
        files: the evaluation files it is from, seed by seed.
        model: the model that a control's value depends on; empty where it depends on none.
    """

    name: str
    is_control: bool
    seeds: tuple[int, ...]
    values: Mapping[str, Value]
    note: str = ""
    details: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Path, ...] = ()
    model: str = ""


@dataclass(frozen=True)
class NotRun:
    """A row that has no scores, and why."""

    name: str
    is_control: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """All results of one task under one protocol.

    Attributes:
        metrics: names; the first is the one to quote.
        entries: models by name, then controls by name.
        unit: what was resampled for the intervals.
        n: items scored.
        settings: the task's settings, of the first file.
        not_run: rows without scores.
        ceilings: rows that are given what no model may be given; shown apart, and no winner or rival of any.
        own_truth: whether each model is judged on a truth of its own, so that only its own controls are its rivals.
    """

    task: str
    protocol: str
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]
    unit: str
    n: int
    settings: Mapping[str, Any]
    not_run: tuple[NotRun, ...] = ()
    ceilings: tuple[Entry, ...] = ()
    own_truth: bool = False

    @property
    def is_oracle(self) -> bool:
        """Whether labels were used to pick something that a user without labels could not pick."""
        return bool(self.settings.get("oracle")) or "oracle" in self.protocol

    def best(self, metric: str) -> tuple[Entry, ...]:
        """Return the entries with the best value, controls included; none when the metric's direction is unknown.

        Where every model has a truth of its own, these are the best of each model and its rivals.
        """
        ranked = self.ranked(metric)
        groups = [_among(ranked, model) for model in ranked if not model.is_control] if self.own_truth else []
        best = [
            entry
            for group in groups or [ranked]
            for entry in group
            if abs(entry.values[metric].value - group[0].values[metric].value) < _TIE
        ]
        return tuple(entry for entry in ranked if any(entry is one for one in best))

    def contenders(self, metric: str) -> tuple[Entry | None, Entry | None]:
        """Return the best model and the best control, of truths of their own the model of the widest lead and its."""
        ranked = self.ranked(metric)
        pairs = [_pair(_among(ranked, model)) for model in ranked if not model.is_control]
        if not self.own_truth or not pairs:
            return _pair(ranked)
        return max(pairs, key=lambda pair: _lead(pair, metric))

    def beaten_by_control(self, metric: str) -> bool:
        """Return whether a control does as well as every model, or better."""
        best = [entry.is_control for entry in self.best(metric)]
        return all(best) if self.own_truth else any(best)

    def verdict(self, metric: str, test: str = "") -> str:
        """Say in a sentence who wins, and whether intervals and test bear it out.

        Args:
            metric: to tell of.
            test: what a paired test of the best model and the best control shows; it decides where intervals overlap.
        """
        ranked, best = self.ranked(metric), self.best(metric)
        if not best:
            return f"{metric}: no winner is marked, for it is not known whether higher is better."
        if self.own_truth:
            return self._verdict_alone(metric)
        value = format_value(best[0].values[metric])
        if len({entry.is_control for entry in best}) == 2:
            return f"{metric}: {_named(best)} share the best value ({value}). No model beats the controls here."
        rivals = [entry for entry in ranked if entry.is_control != best[0].is_control]
        text = f"{metric}: {_named(best)} {'is' if len(best) == 1 else 'are'} best ({value})"
        if not rivals:
            return f"{text}; no {'model' if best[0].is_control else 'control'} was run."
        kind = "model" if best[0].is_control else "control"
        text += f"; the best {kind} is {rivals[0].name} ({format_value(rivals[0].values[metric])})"
        if overlap(best[0].values[metric], rivals[0].values[metric]):
            text += f"; their intervals overlap, {f'and {test}' if test else 'so this may be chance'}"
        elif test:
            text += f"; {test}"
        return text + (". No model beats the controls here." if best[0].is_control else ".")

    def _verdict_alone(self, metric: str) -> str:
        ranked, told = self.ranked(metric), []
        for model, rival in (_pair(_among(ranked, one)) for one in ranked if not one.is_control):
            if model is not None and rival is not None:
                won = "beats" if _lead((model, rival), metric) >= _TIE else "does not beat"
                own, other = (format_value(entry.values[metric]) for entry in (model, rival))
                told.append(f"{model.name} ({own}) {won} {rival.name} ({other})")
        return (
            f"{metric}: every model is judged on an embedding of its own, beside its own controls: {'; '.join(told)}."
        )

    def ranked(self, metric: str) -> list[Entry]:
        """Return the rows that have a metric, the best first; none when its direction is unknown."""
        sign = direction(metric)
        scored = [entry for entry in self.entries if metric in entry.values and sign]
        return sorted(scored, key=lambda entry: -sign * entry.values[metric].value)


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
        grouped.setdefault((result["task"], result["protocol"]), []).append({**result, "path": path})
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
    scored = [result for result in results if not result.get(_NOT_RUN)]
    first = (scored or results)[0]
    for result in scored:
        if (result["n"], result["unit"]) != (first["n"], first["unit"]):
            raise InputError(
                f"evaluation of {first['task']}, protocol {first['protocol']}",
                f"{result['model']} was judged on {result['n']} items by {result['unit']}, "
                f"{first['model']} on {first['n']} by {first['unit']}",
                "run evaluate again for all models: what is compared must be judged on the same items",
            )
    metrics = {name for result in scored for found in _metrics_of(result) for name in found}
    models: dict[str, list[Mapping[str, Any]]] = {}
    for result in scored:
        if result["model"] != _CONTROLS:
            models.setdefault(result["model"], []).append(_row(result, result["metrics"], _about(result, "model")))
    entries = [_entry(name, False, items) for name, items in sorted(models.items())]
    return Comparison(
        first["task"],
        first["protocol"],
        tuple(sorted(metrics, key=place)),
        (*entries, *_beside(scored, _CONTROLS)),
        first["unit"],
        int(first["n"]),
        first.get("settings", {}),
        _not_run(results),
        tuple(_beside(scored, _CEILINGS)),
        any(result.get("own_truth") for result in scored),
    )


def _metrics_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics of a file's rows; of a file that judges a model, the model's alone."""
    return list(result["controls"].values()) if result["model"] == _CONTROLS else [result["metrics"]]


def _about(result: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return what a file tells of its model, or of one of its controls or ceilings."""
    found = result.get("settings", {})
    for key in keys:
        found = found.get(key, {})
    return found if isinstance(found, Mapping) else {}


def _row(result: Mapping[str, Any], metrics: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    return {"seed": result["seed"], "metrics": metrics, "about": about, "path": result["path"]}


def _not_run(results: Sequence[Mapping[str, Any]]) -> tuple[NotRun, ...]:
    """Return models that could not be run and controls that say nothing here, each once."""
    found = {}
    for result in results:
        if result.get(_NOT_RUN):
            found[result["model"]] = NotRun(result["model"], False, str(result[_NOT_RUN]))
        for name, reason in result.get("settings", {}).get("left_out", {}).items():
            found[name] = NotRun(name, True, str(reason))
    return tuple(sorted(found.values(), key=lambda row: (row.is_control, row.name)))


def _beside(results: Sequence[Mapping[str, Any]], kind: str) -> list[Entry]:
    """Return each control (or ceiling) once where every file agrees on it, else once a model: it depends on that."""
    entries, is_control = [], kind == _CONTROLS
    for name in sorted({name for result in results for name in result.get(kind, {})}):
        by_model: dict[str, list[Mapping[str, Any]]] = {}
        for result in results:
            if name in result.get(kind, {}):
                row = _row(result, result[kind][name], _about(result, kind, name))
                by_model.setdefault(result["model"], []).append(row)
        scores = [[item["metrics"] for item in items] for items in by_model.values()]
        if all(score == scores[0] for score in scores):
            entries.append(_entry(name, is_control, next(iter(by_model.values()))))
        else:
            entries += [
                _entry(f"{name} ({model})", is_control, items, model) for model, items in sorted(by_model.items())
            ]
    return entries


def _entry(name: str, is_control: bool, rows: Sequence[Mapping[str, Any]], model: str = "") -> Entry:
    metrics = dict.fromkeys(metric for row in rows for metric in row["metrics"])
    values = {}
    for metric in metrics:
        found = [row["metrics"][metric] for row in rows if metric in row["metrics"]]
        scored = [item for item in found if item["value"] is not None]
        if scored:
            values[metric] = _pool(scored)
    details = tuple(row["about"] for row in rows)
    files = tuple(row["path"] for row in rows)
    note = str(details[0].get("what", ""))
    return Entry(name, is_control, tuple(sorted({row["seed"] for row in rows})), values, note, details, files, model)


def _pool(found: Sequence[Mapping[str, Any]]) -> Value:
    lows = [item["low"] for item in found if item.get("low") is not None]
    highs = [item["high"] for item in found if item.get("high") is not None]
    values = [item["value"] for item in found]
    sd = stdev(values) if len(values) > 1 else None
    return Value(sum(values) / len(values), min(lows) if lows else None, max(highs) if highs else None, sd)


def _bound(bound: float | None, value: float) -> float:
    return value if bound is None else bound


def _among(ranked: Sequence[Entry], model: Entry) -> list[Entry]:
    """Return a model and the controls that are judged on the same truth."""
    return [entry for entry in ranked if entry is model or (entry.is_control and entry.model in ("", model.name))]


def _pair(ranked: Sequence[Entry]) -> tuple[Entry | None, Entry | None]:
    """Return the first model and the first control."""
    model, control = (next((one for one in ranked if one.is_control == kind), None) for kind in (False, True))
    return model, control


def _lead(pair: tuple[Entry | None, Entry | None], metric: str) -> float:
    """Return by how much a model is better than a control; least where there is none."""
    model, control = pair
    if model is None or control is None:
        return -inf
    return direction(metric) * (model.values[metric].value - control.values[metric].value)


def _named(entries: Sequence[Entry]) -> str:
    """Return `the model pca and the controls pca, log_counts`."""
    kinds = []
    for is_control, kind in ((False, "model"), (True, "control")):
        names = [entry.name for entry in entries if entry.is_control == is_control]
        if names:
            kinds.append(f"the {kind}{'s' * (len(names) > 1)} {', '.join(names)}")
    return " and ".join(kinds)
