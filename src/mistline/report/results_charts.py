"""Charts of a table of results, from what the tasks tell beside the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.report.pictures import Album
from mistline.report.plots import scores as score_plots
from mistline.report.plots import theme
from mistline.report.plots.confusion import Matrix, confusion
from mistline.report.plots.curves import Panel, Series, curves
from mistline.report.plots.theme import Picture
from mistline.report.scores import Comparison, Entry

HEADLINES = 4  # metrics that are drawn, and told of in sentences
_MOST_MODELS = 8
_MOST_CONTROLS = 3
_LABELLED = re.compile(r"(\d+(?:\.\d+)?) % of the labelled cells")
Colours = Mapping[str, str]


def score_chart(item: Comparison, colours: Colours, album: Album) -> Picture:
    """Draw the first metrics of every row as points with intervals."""
    bars = {metric: [_bar(entry, metric) for entry in item.entries] for metric in item.metrics[:HEADLINES]}
    return theme.chart(
        partial(score_plots.scores, metrics=bars, colours=colours),
        folder=album.folder,
        name=f"{item.task}.{item.protocol}",
        alt=f"scores of models and controls on {item.task}, protocol {item.protocol}",
        caption=f"Filled: models. Hollow: controls. Lines: intervals (resampled unit: {item.unit}; n = {item.n:,}).",
    )


def detail_charts(item: Comparison, colours: Colours, album: Album) -> list[Picture]:
    """Draw confusion, calibration and distance to the border, each where the task tells of it."""
    made = (_confusion(item, album), _calibration(item, colours, album), _border(item, colours, album))
    return [picture for picture in made if picture is not None]


def label_curve(items: Sequence[Comparison], colours: Colours, album: Album) -> Picture | None:
    """Draw the first metrics over the share of labels trained on; None for fewer than three shares.

    Args:
        items: all protocols of one task; those that say which share of the labelled cells is trained on count.
        colours: of the models.
        album: where the picture goes.
    """
    shares = {share: item for item in items if (share := labelled_share(item)) is not None}
    if len(shares) < 3:
        return None
    metrics = [name for name in items[0].metrics if all(name in item.metrics for item in shares.values())][:3]
    if not metrics:
        return None
    ticks = {share: f"{share:g} %" for share in sorted(shares)}
    drawn = [
        Panel(metric, "labelled cells trained on", metric, _over_shares(shares, metric), ticks=ticks)
        for metric in metrics
    ]
    task = items[0].task
    return theme.chart(
        partial(curves, drawn=drawn, colours=colours),
        folder=album.folder,
        name=f"{task}.labels",
        alt=f"scores on {task} by the share of labels trained on",
        caption="How many labels are needed: the same test cells, fewer and fewer labels to train on.",
    )


def labelled_share(item: Comparison) -> float | None:
    """Return the percentage of the labelled cells that a protocol trains on, where its description says so."""
    found = _LABELLED.search(str(item.settings.get("protocol", "")))
    return float(found[1]) if found else None


def _over_shares(shares: Mapping[float, Comparison], metric: str) -> list[Series]:
    names: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for share in sorted(shares):
        for entry in shares[share].entries:
            if metric in entry.values and " (" not in entry.name:
                names.setdefault((entry.name, entry.is_control), []).append((share, entry.values[metric].value))
    return [Series(*name, *zip(*points, strict=True)) for name, points in names.items()]  # type: ignore[arg-type]


def _bar(entry: Entry, metric: str) -> score_plots.Bar:
    value = entry.values.get(metric)
    if value is None:
        return score_plots.Bar(entry.name, entry.is_control, None, None, None)
    return score_plots.Bar(entry.name, entry.is_control, value.value, value.low, value.high)


def _telling(item: Comparison, key: str) -> Iterator[tuple[Entry, list[Any]]]:
    """Yield the rows to draw, the best first: (row, what it tells under a key, seed by seed)."""
    left = {False: _MOST_MODELS, True: _MOST_CONTROLS}
    ranked = item.ranked(item.metrics[0])
    coordinates = [entry for entry in ranked if entry.name == "coordinates"]
    for entry in sorted(ranked, key=lambda entry: entry not in coordinates):
        found = [about[key] for about in entry.details if about.get(key)]
        if found and left[entry.is_control]:
            left[entry.is_control] -= 1
            yield entry, found


def _confusion(item: Comparison, album: Album) -> Picture | None:
    classes = item.settings.get("classes")
    rows = sorted(_telling(item, "confusion"), key=lambda row: row[0].is_control)
    if not classes or not rows:
        return None
    ranked = item.ranked(item.metrics[0])
    best = {is_control: next((row for row in ranked if row.is_control == is_control), None) for is_control in (0, 1)}
    shown = [row for row in rows if row[0] in (best[False], best[True])] or rows[:1]
    matrices = [
        Matrix(f"{'control: ' * entry.is_control}{entry.name}", np.sum(np.array(found, dtype=np.float64), axis=0))
        for entry, found in shown
    ]
    seeds = " and seeds" if any(len(found) > 1 for _, found in shown) else ""
    return theme.chart(
        partial(confusion, matrices=matrices, classes=classes),
        folder=album.folder,
        name=f"{item.task}.{item.protocol}.confusion",
        alt=f"confusion matrices of {' and '.join(entry.name for entry, _ in shown)} on {item.task}",
        caption="What cells of a class (row) were taken for (column), as shares of the row, over all tested cells"
        f"{seeds}: the best model and the best control.",
    )


def _calibration(item: Comparison, colours: Colours, album: Album) -> Picture | None:
    lines = []
    for entry, found in _telling(item, "reliability"):
        n, confidence, accuracy = (np.array([one[key] for one in found]) for key in ("n", "confidence", "accuracy"))
        total = n.sum(axis=0)
        kept = total > 0
        pooled = [(n * values).sum(axis=0)[kept] / total[kept] for values in (confidence, accuracy)]
        lines.append(Series(entry.name, entry.is_control, pooled[0].tolist(), pooled[1].tolist()))
    if not lines:
        return None
    panel = Panel("Calibration", "probability of the answer", "share that is right", lines, diagonal=True,
                  limits=(-0.02, 1.02))  # fmt: skip
    return theme.chart(
        partial(curves, drawn=[panel], colours=colours),
        folder=album.folder,
        name=f"{item.task}.{item.protocol}.calibration",
        alt=f"calibration of models and controls on {item.task}, protocol {item.protocol}",
        caption="How sure a row is, and how often it is right; on the diagonal its probabilities can be trusted.",
    )


def _border(item: Comparison, colours: Colours, album: Album) -> Picture | None:
    lines, ticks = [], {}
    for entry, found in _telling(item, "border_curve"):
        x, accuracy, names = _pooled_curve(found)
        lines.append(Series(entry.name, entry.is_control, x.tolist(), accuracy.tolist()))
        ticks |= dict(zip(x.tolist(), names, strict=True))
    if not lines:
        return None
    panel = Panel("Accuracy by distance to the border", "µm to the nearest border", "share that is right", lines)
    return theme.chart(
        partial(curves, drawn=[panel], colours=colours),
        folder=album.folder,
        name=f"{item.task}.{item.protocol}.border",
        alt=f"accuracy on {item.task} by distance to the nearest border, protocol {item.protocol}",
        caption="Mistakes gather where domains meet. A dot is the middle of a bin "
        f"({', '.join(ticks[place] for place in sorted(ticks))} µm).",
    )


def _pooled_curve(found: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return the middles of the bins, accuracy pooled over seeds, and the bins' names."""
    bins: dict[tuple[float, float | None], list[tuple[float, float]]] = {}
    for curve in found:
        for one in curve:
            bins.setdefault((one["from_um"], one["to_um"]), []).append((one["n"], one["accuracy"]))
    x, accuracy, names = [], [], []
    for low, high in sorted(bins, key=lambda edges: edges[0]):
        weights = np.array(bins[low, high])
        x.append(low * 1.15 if high is None else (low + high) / 2)
        accuracy.append(float((weights[:, 0] * weights[:, 1]).sum() / weights[:, 0].sum()))
        names.append(f"{low:g} and more" if high is None else f"{low:g}–{high:g}")
    return np.array(x), np.array(accuracy), names
