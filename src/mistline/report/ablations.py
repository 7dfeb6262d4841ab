"""Tables of ablations: rows in their order, and what each adds to the one it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mistline.core.metrics import direction
from mistline.report.scores import Comparison, Entry
from mistline.report.significance import BETTER, UNDECIDED, WORSE, PairedTests
from mistline.report.tables import Cell, Column, Row, Table, cell

_FIRST = 2
_ALSO = ("accuracy", "log_loss")  # the figures of the paper's table
_OWN = ("low", "high", "sd_seeds")
_PARTS = (*_OWN, "difference", *(f"difference_{part}" for part in _OWN))


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
    heads = [
        Column("row"),
        Column("kind"),
        Column("compared with"),
        *(Column(name, True, parts=_PARTS) for name in metrics),
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
    rival = line["against"]
    about = (Cell(entry.name, entry.name, note=entry.note), cell(line["kind"]), cell(rival))
    return Row((*about, *(_score(entry, metric, line["metrics"].get(metric)) for metric in metrics)))


def _score(entry: Entry, metric: str, found: Mapping[str, Any] | None) -> Cell:
    """Return a row's score, and below it the difference, where there is one."""
    value = entry.values.get(metric)
    if value is None:
        return Cell("–", parts=(None,) * len(_PARTS))
    own = (value.low, value.high, value.sd)
    text = f"{value.value:.3f}{_scatter(value.sd)}"
    if found is None:
        return Cell(text, value.value, parts=(*own, *[None] * 4))
    low, high, difference, scatter = (found[key] for key in ("low", "high", "difference", "sd_seeds"))
    shown = f"{difference:+.3f}{_scatter(scatter)}"
    told = f"paired over {found['n']} {found['unit']}s"
    sign = ""
    if low is None:
        told += ", too few for an interval"
    else:
        shown += f"\n[{low:+.3f}, {high:+.3f}]"
        sign = {True: BETTER, False: WORSE, None: UNDECIDED if direction(metric) else ""}[found["is_better"]]
        told += "" if found["p"] is None else f", signed-rank test p = {found['p']:.3f}"
    return Cell(text, value.value, tag=sign, parts=(*own, difference, low, high, scatter), note=told, sub=shown)


def _scatter(sd: float | None) -> str:
    return "" if sd is None else f" ± {sd:.3f}"


def _caption(item: Comparison, lines: Sequence[Mapping[str, Any]], metrics: Sequence[str], n_seeds: int) -> str:
    units = sorted({found["unit"] for line in lines for found in line["metrics"].values()})
    told = f"paired over {' or '.join(f'{unit}s' for unit in units)}" if units else "nothing could be paired"
    seeds = f"Means over {n_seeds} seeds ± their standard deviation." if n_seeds > 1 else "One seed."
    lower = [metric for metric in metrics if direction(metric) < 0]
    sentences = [
        f"Ablation of {item.task}, protocol {item.protocol}: each row, and below its score the difference to the row "
        f"it is compared with, {told} [95 % interval]; {BETTER} better, {WORSE} worse, {UNDECIDED} the interval holds "
        "0.",
        seeds,
        f"Lower is better: {', '.join(lower)}." if lower else "",
        "Cells of the tested slides say nothing of another donor, and nothing of another training."
        if "cell" in units
        else "",
    ]
    return " ".join(filter(None, sentences))
