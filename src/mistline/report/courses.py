"""Courses of trainings: what was written step by step, as curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mistline.core.errors import ConfigError, InputError
from mistline.report.pictures import Album
from mistline.report.plots import theme
from mistline.report.plots.curves import Panel, Series, curves
from mistline.report.plots.theme import Picture

_STEP = ("step", "epoch")
_NO_CURVE = frozenset(["fold", "lr", "seed", *_STEP])
_MOST_PANELS = 3
_FEWEST_STEPS = 3


@dataclass(frozen=True)
class Course:
    """One file of a training.

    Attributes:
        path: lines of JSON, a step each.
        model: name of the run.
        seed: of the training.
        table: task and protocol it was trained for; empty for a model that serves all tasks.
    """

    path: Path
    model: str
    seed: int
    table: tuple[str, str] | None


def read_course_names(paths: Sequence[Path], names: Sequence[str]) -> list[Course]:
    """Pair files with what they are of: `model/seed` or `model/seed/task/protocol`.

    Raises:
        ConfigError: they are not equally many, or a name is none of these.
    """
    remedy = "give --course-of once a course, as model/seed or model/seed/task/protocol"
    if len(paths) != len(names):
        raise ConfigError("report", f"{len(paths)} courses and {len(names)} names of them", remedy)
    found = []
    for path, name in zip(paths, names, strict=True):
        parts = name.split("/")
        if len(parts) not in (2, 4) or not parts[1].isdigit():
            raise ConfigError("report", f"{name!r} does not say what a course is of", remedy)
        table = (parts[2], parts[3]) if len(parts) == 4 else None
        found.append(Course(path, parts[0], int(parts[1]), table))
    return found


def table_chart(
    courses: Sequence[Course], table: tuple[str, str], colours: Mapping[str, str], album: Album
) -> Picture | None:
    """Draw the trainings for one table, a colour a model; None where none went in steps."""
    own = [course for course in courses if course.table == table]
    return _chart(own, f"{table[0]}.{table[1]}", f"{table[0]}, protocol {table[1]}", colours, album)


def model_charts(courses: Sequence[Course], colours: Mapping[str, str], album: Album) -> list[Picture]:
    """Draw the trainings that serve all tasks, a picture a model."""
    names = sorted({course.model for course in courses if course.table is None})
    made = [
        _chart([c for c in courses if c.model == name and c.table is None], name, f"model {name}", colours, album)
        for name in names
    ]
    return [picture for picture in made if picture is not None]


def _chart(courses: Sequence[Course], name: str, what: str, colours: Mapping[str, str], album: Album) -> Picture | None:
    runs = [(course.model, run) for course in courses for run in _runs(course.path)]
    found = dict.fromkeys(key for _, run in runs for key in run if key != "step")
    metrics = sorted(found, key=_rank)[:_MOST_PANELS]
    if not metrics:
        return None
    drawn = [Panel(metric, "step", metric, list(_lines(runs, metric))) for metric in metrics]
    return theme.chart(
        partial(curves, drawn=drawn, colours=colours, markers=False),
        folder=album.folder,
        name=f"{name}.training",
        alt=f"course of the training for {what}",
        caption=f"Training for {what}: {_whose(len(runs))}.",
    )


def _whose(n_trainings: int) -> str:
    if n_trainings == 1:
        return "one training"
    return f"thin, each of {n_trainings} trainings (seeds and folds); thick, their mean"


def _rank(metric: str) -> int:
    """Put what is minimised first, and what only tells of the steps themselves last; the rest stays as it is."""
    first = ("loss", "val_loss")
    return first.index(metric) if metric in first else len(first) + (metric == "grad_norm")


def _lines(runs: Sequence[tuple[str, Mapping[str, np.ndarray]]], metric: str) -> Iterator[Series]:
    for model in dict.fromkeys(model for model, _ in runs):
        own = [run for name, run in runs if name == model and metric in run]
        if len(own) > 1:
            for run in own:
                yield Series(model, False, run["step"].tolist(), run[metric].tolist(), faint=True)
        if own:
            longest = max((run["step"] for run in own), key=len)
            padded = np.full((len(own), len(longest)), np.nan)
            for line, run in zip(padded, own, strict=True):
                line[: len(run[metric])] = run[metric]
            enough = np.isfinite(padded).sum(axis=0) * 2 >= len(own)  # a mean of the last few would jump
            yield Series(model, False, longest[enough].tolist(), np.nanmean(padded[:, enough], axis=0).tolist())


def _runs(path: Path) -> list[dict[str, np.ndarray]]:
    """Return the trainings of one file, a fold each: name -> [steps], NaN where a step has no value.

    Raises:
        InputError: the file is missing or no lines of JSON.
    """
    rows = _rows(path)
    step = next((name for name in _STEP if any(name in row for row in rows)), None)
    if step is None:
        return []
    folds: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        if step in row:
            folds.setdefault(row.get("fold"), []).append(row)
    runs = []
    for fold in folds.values():
        if len(fold) < _FEWEST_STEPS:
            continue
        keys = dict.fromkeys(key for row in fold for key, value in row.items() if _is_number(value))
        run = {
            key: np.array([row[key] if _is_number(row.get(key)) else np.nan for row in fold], dtype=np.float64)
            for key in keys
            if key not in _NO_CURVE
        }
        varied = {key: values for key, values in run.items() if len(np.unique(values[np.isfinite(values)])) > 1}
        if varied:
            runs.append({"step": np.array([row[step] for row in fold], dtype=np.float64), **varied})
    return runs


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(path, "no such file", "run train or predict again") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"line {error.lineno} is no JSON", "run train or predict again") from None
    return [row for row in rows if isinstance(row, dict)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
