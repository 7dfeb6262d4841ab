"""Tables of results: models beside controls with intervals, marks of the tests and published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mistline.report.scores import Comparison, Entry, NotRun, Value
from mistline.report.significance import LEGEND, PairedTests
from mistline.report.tables import Cell, Column, Row, Table, cell, columns, row

_NOTHING = Cell("–")


@dataclass(frozen=True)
class Figure:
    """A published value of one metric, and whose it is; `row` is our row that is the same method, if any."""

    metric: str
    value: float
    method: str
    row: str | None
    source: str


def published(item: Comparison) -> tuple[Figure, ...]:
    """Return the figures that were published for this very protocol, in the order they are given."""
    given = item.settings.get("published") or ()
    return tuple(
        Figure(one["metric"], one["value"], one["method"], one.get("row"), one.get("source") or "")
        for one in given
        if one["protocol"] == item.protocol and one["metric"] in item.metrics
    )


def score_table(item: Comparison, tests: PairedTests, metrics: Sequence[str], name: str = "") -> Table:
    """Return models and controls of one task and protocol, for some metrics, the best of each column marked.

    Ceilings follow below: they are no rivals.

    Args:
        item: the rows.
        tests: of the same table.
        metrics: to show; the file of this table holds the bounds and the scatter over seeds in columns of their own.
        name: of the table; absent: task and protocol.
    """
    figures = [figure for figure in published(item) if figure.metric in metrics]
    told = tuple(dict.fromkeys(figure.metric for figure in figures))
    heads = [Column(metric, True, parts=("low", "high", "sd_seeds")) for metric in metrics]
    heads += [Column(f"published {metric}", True, "by the same protocol") for metric in told]
    lines = [_line(item, entry, tests, metrics, [f for f in figures if f.row == entry.name], told)
             for entry in (*item.entries, *item.ceilings)]  # fmt: skip
    lines += _others(item, figures, metrics, told)
    lines += [
        Row((Cell(gone.name, gone.name), cell(_kind(gone)), *[_blank()] * len(metrics),
             *[_NOTHING] * len(told), _NOTHING, Cell(f"not run: {gone.reason}", f"not run: {gone.reason}")),
            "control" if gone.is_control else "")
        for gone in item.not_run
    ]  # fmt: skip
    shown = (Column("name"), Column("kind"), *heads, Column("seeds"), Column("note"))
    if all(line.cells[-1].text in ("", "–") for line in lines):
        shown, lines = shown[:-1], [Row(line.cells[:-1], line.mark) for line in lines]
    return Table(name or f"{item.task}.{item.protocol}", _caption(item, tests), shown, tuple(lines))


def glance_table(items: Sequence[Comparison], tests: Sequence[PairedTests]) -> Table:
    """Return one line a table: the best model beside the best control on the first metric."""
    lines = []
    for item, tested in zip(items, tests, strict=True):
        metric = item.metrics[0]
        model, control = item.contenders(metric)
        mark = tested.mark(metric, model.name) if model else None
        winner = _winner(item, metric, model, control)
        lines.append(
            row(
                item.task, item.protocol.replace("_", " "), metric, *_contender(model, metric),
                Cell(mark.sign if mark else "", mark.sign if mark else "", note=mark.note if mark else ""),
                *_contender(control, metric), Cell(winner, winner, "best" if winner == "model" else "lost"),
            )
        )  # fmt: skip
    parts = ("low", "high", "sd_seeds")
    heads = (
        *columns("task", "protocol", "metric", "best model"), Column("model's score", True, parts=parts),
        Column("test", note=LEGEND), Column("best control"), Column("control's score", True, parts=parts),
        Column("winner"),
    )  # fmt: skip
    return Table("results", f"Every table at a glance, on its first metric. {LEGEND}.", heads, tuple(lines))


def _winner(item: Comparison, metric: str, *contenders: Entry | None) -> str:
    kinds = {entry.is_control for entry in item.best(metric) if entry in contenders}
    return {frozenset([False]): "model", frozenset([True]): "control"}.get(frozenset(kinds), "neither")


def _contender(entry: Entry | None, metric: str) -> tuple[Cell, Cell]:
    if entry is None:
        return _NOTHING, _blank()
    return Cell(entry.name, entry.name), _score(entry.values[metric])


def _line(
    item: Comparison,
    entry: Entry,
    tests: PairedTests,
    metrics: Sequence[str],
    figures: Sequence[Figure],
    told: Sequence[str],
) -> Row:
    cells = [_metric(item, entry, tests, metric) for metric in metrics]
    beside = [_published([figure for figure in figures if figure.metric == metric]) for metric in told]
    seeds = Cell(", ".join(map(str, entry.seeds)), " ".join(map(str, entry.seeds)))
    name = Cell(entry.name, entry.name, note=entry.note)
    kind = "ceiling" if entry in item.ceilings else _kind(entry)
    mark = "" if kind == "model" else "control"
    return Row((name, cell(kind), *cells, *beside, seeds, Cell("", "")), mark)


def _others(item: Comparison, figures: Sequence[Figure], metrics: Sequence[str], told: Sequence[str]) -> list[Row]:
    """Return a line a published method that is none of our rows."""
    names = {entry.name for entry in item.entries}
    methods = dict.fromkeys(figure.method for figure in figures if figure.row not in names)
    lines = []
    for method in methods:
        own = [figure for figure in figures if figure.method == method and figure.row not in names]
        beside = [_published([figure for figure in own if figure.metric == metric]) for metric in told]
        about = "; ".join(dict.fromkeys(figure.source for figure in own if figure.source))
        line = (Cell(method, method), Cell("published", "published"), *[_blank()] * len(metrics), *beside)
        lines.append(Row((*line, _NOTHING, Cell(about, about)), "control"))
    return lines


def _published(figures: Sequence[Figure]) -> Cell:
    if not figures:
        return _NOTHING
    first = figures[0]
    note = "; ".join(filter(None, (first.method, first.source)))
    return Cell(f"{first.value:.3f}", first.value, note=note)


def _metric(item: Comparison, entry: Entry, tests: PairedTests, metric: str) -> Cell:
    if metric not in entry.values:
        return _blank()
    is_best = any(entry is winner for winner in item.best(metric))
    mark = tests.mark(metric, entry.name) if entry in item.entries and not entry.is_control else None
    tags = ["★"] * is_best + ([mark.sign] if mark and mark.sign else [])
    return _score(entry.values[metric], "best" if is_best else "", " ".join(tags), mark.note if mark else "")


def _score(value: Value, mark: str = "", tag: str = "", note: str = "") -> Cell:
    text = f"{value.value:.3f}" + (f" ± {value.sd:.3f}" if value.sd is not None else "")
    bounds = "" if value.low is None or value.high is None else f"[{value.low:.3f}, {value.high:.3f}]"
    return Cell(text, value.value, mark, tag, (value.low, value.high, value.sd), note, bounds)


def _blank() -> Cell:
    return Cell("–", parts=(None, None, None))


def _kind(row: Entry | NotRun) -> str:
    return "control" if row.is_control else "model"


def _caption(item: Comparison, tests: PairedTests) -> str:
    several = any(value.sd is not None for entry in item.entries for value in entry.values.values())
    told = ["value", "± standard deviation over seeds" if several else "", f"[interval over {item.unit}s]"]
    text = f"{item.task}, protocol {item.protocol}: {' '.join(filter(None, told))}; ★ the best, whoever it is"
    text += "; a ceiling is given what no model may be given, and is not ranked" if item.ceilings else ""
    return f"{text}; {LEGEND}." if tests.were_made else f"{text}."
