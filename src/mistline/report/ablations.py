"""Tables of ablations: rows in their order, and what each adds to the one it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mistline.core.metrics import direction
from mistline.report.scores import Comparison, Entry
from mistline.report.significance import BETTER, UNDECIDED, WORSE, PairedTests
from mistline.report.tables import Cell, Column, Row, Table, cell

_FIRST = 3
_ALSO = ("accuracy", "log_loss")  # the figures of the paper's table
_BLANK = Cell("–", parts=(None, None, None))


def ablation_table(item: Comparison, tests: PairedTests) -> Table | None:
    """Return the rows of a table's ablation with their paired differences; None where none was asked for.

    Args:
        item: the table's rows.
        tests: what the stage compare found.
    """
    given = tests.ablation
    if not given or not given["rows"]:
        return None
    entries = {entry.name: entry for entry in item.entries if not entry.is_control}
    metrics = _shown(item, given["metrics"])
    heads = [Column("row"), Column("kind"), Column("compared with")]
    for metric in metrics:
        heads += [
            Column(metric, True, parts=("low", "high", "sd_seeds")),
            Column(f"{metric}: difference", True, "row minus the row it is compared with", ("low", "high", "sd_seeds")),
        ]
    lines = [_line(line, entries[line["row"]], metrics) for line in given["rows"] if line["row"] in entries]
    n_seeds = max((len(entries[line["row"]].seeds) for line in given["rows"] if line["row"] in entries), default=0)
    caption = _caption(item, given["rows"], metrics, n_seeds)
    return Table(f"{item.task}.{item.protocol}.ablation", caption, tuple(heads), tuple(lines))


def _shown(item: Comparison, asked: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics asked for; else the first ones and those of the paper."""
    if asked:
        return tuple(metric for metric in asked if metric in item.metrics)
    return tuple(dict.fromkeys([*item.metrics[:_FIRST], *(metric for metric in _ALSO if metric in item.metrics)]))


def _line(line: Mapping[str, Any], entry: Entry, metrics: Sequence[str]) -> Row:
    cells = [Cell(entry.name, entry.name, note=entry.note), cell(line["kind"])]
    cells.append(Cell(line["against"], line["against"]) if line["against"] else Cell("–"))
    for metric in metrics:
        cells += [_value(entry, metric), _difference(line["metrics"].get(metric), metric)]
    return Row(tuple(cells))


def _value(entry: Entry, metric: str) -> Cell:
    value = entry.values.get(metric)
    if value is None:
        return _BLANK
    text = f"{value.value:.3f}" + (f" ± {value.sd:.3f}" if value.sd is not None else "")
    return Cell(text, value.value, parts=(value.low, value.high, value.sd), sub=_bounds(value.low, value.high))


def _difference(found: Mapping[str, Any] | None, metric: str) -> Cell:
    if found is None:
        return _BLANK
    scatter = found["sd_seeds"]
    parts = (found["low"], found["high"], scatter)
    text = f"{found['difference']:+.3f}" + (f" ± {scatter:.3f}" if scatter is not None else "")
    if found["low"] is None:
        note = f"{found['n']} {found['unit']}s are too few for an interval"
        return Cell(text, found["difference"], parts=parts, note=note)
    sign = {True: BETTER, False: WORSE, None: UNDECIDED if direction(metric) else ""}[found["is_better"]]
    p = "" if found["p"] is None else f", signed-rank test p = {found['p']:.3f}"
    return Cell(
        text,
        found["difference"],
        tag=sign,
        parts=parts,
        note=f"paired over {found['n']} {found['unit']}s{p}",
        sub=_bounds(found["low"], found["high"], "+"),
    )


def _bounds(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _caption(item: Comparison, lines: Sequence[Mapping[str, Any]], metrics: Sequence[str], n_seeds: int) -> str:
    units = sorted({found["unit"] for line in lines for found in line["metrics"].values()})
    told = f"paired over {' or '.join(f'{unit}s' for unit in units)}" if units else "nothing could be paired"
    means = f"Means over {n_seeds} seeds ± their standard deviation." if n_seeds > 1 else "One seed."
    lower = [metric for metric in metrics if direction(metric) < 0]
    sentences = [
        f"Ablation of {item.task}, protocol {item.protocol}: each row, and its difference to the row it is compared "
        f"with, {told} [95 % interval]; {BETTER} better, {WORSE} worse, {UNDECIDED} the interval holds 0.",
        means,
        f"Lower is better: {', '.join(lower)}." if lower else "",
        "Cells of the tested slides say nothing of another donor, and nothing of another training."
        if "cell" in units
        else "",
    ]
    return " ".join(filter(None, sentences))
