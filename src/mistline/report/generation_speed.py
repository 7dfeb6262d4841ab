"""The speed table: how fast a generator draws with and without token merging, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mistline.report.pictures import Album
from mistline.report.plots import responses, theme
from mistline.report.plots.theme import Picture
from mistline.report.tables import Cell, Column, Row, Table, cell

_METRICS = {"psnr": "PSNR", "ssim": "SSIM", "fid": "FID"}
_BESIDE = ("psnr", "ssim")  # metrics beside what no merging draws


@dataclass(frozen=True)
class SweepView:
    """Speed and quality of one generator."""

    title: str
    sentence: str
    notes: tuple[str, ...]
    table: Table
    chart: Picture


def view_sweep(found: Mapping[str, Any], album: Album) -> SweepView:
    """Tabulate and draw one table of the stage sweep."""
    rows = found["rows"]
    metrics = [name for name in _METRICS if name in rows[0]]
    points = {
        _METRICS[name]: [responses.Point(_way(row), row["steps"], row["speedup"]["value"], **row[name]) for row in rows]
        for name in metrics
    }
    chart = theme.chart(
        partial(responses.speed, metrics=points),
        folder=album.folder,
        name=f"sweep.{found['model']}",
        alt=f"quality of {found['model']} against speed, with and without token merging",
        caption="Quality beside the cells' real images against speed; times as fast as no merging in the most steps. "
        "Along a line more tokens are merged away; the band is the interval of no merging in the most steps, the "
        "others' are in the table.",
    )
    title, notes = f"{found['model']}: speed and quality", tuple(found.get("notes", ()))
    return SweepView(title, _sentence(found), notes, _table(found, metrics), chart)


def _sentence(found: Mapping[str, Any]) -> str:
    threads, share = found["threads"], found.get("share_of_sampling") or {}
    parts = [
        f"{name} {share[key]:.0%} of sampling (without any of it: {1 / max(1 - share[key], 1e-3):.2f} times as fast)."
        for key, name in (("self_attention", "Self-attention takes"), ("transformer_blocks", "Transformer blocks take"))
        if key in share
    ]
    told = (
        f"{found['n_cells']} test cells from the same noise in batches of {found['batch_size']}, protocol "
        f"{found['protocol']}, guidance {found['sampling']['guidance']:g}; {found['device']}, {threads} "
        f"thread{'s' * (threads != 1)}; images of {found['image_size']} px, latents "
        f"{' × '.join(map(str, found['latent_shape']))}: {found['tokens']} tokens at the finest layer."
    )
    return " ".join([told, *parts])


def _way(row: Mapping[str, Any]) -> str:
    return {"none": "no merging"}.get(row["way"], str(row["way"]))


def _table(found: Mapping[str, Any], metrics: Sequence[str]) -> Table:
    bounds = ("low", "high")
    heads = [
        Column("merging", parts=("ratio",)), Column("steps", True), Column("s an image", True),
        Column("times as fast", True, "as no merging in the most steps; median over batches and their range", bounds),
        Column("by merging", True, "times as fast as no merging in as many steps", bounds),
    ]  # fmt: skip
    heads += [Column(_METRICS[name], True, "beside the cells' real images", bounds) for name in metrics]
    heads += [
        Column(f"{_METRICS[name]} to unmerged", True, "beside what no merging draws in the most steps", bounds)
        for name in _BESIDE
    ]
    lines = []
    for row in found["rows"]:
        share = f", {row['ratio']:.0%}" if row["ratio"] else ""
        fields = [Cell(f"{_way(row)}{share}", row["way"], parts=(row["ratio"],)), cell(int(row["steps"]))]
        fields.append(Cell(f"{row['seconds_per_image']:.3g}", row["seconds_per_image"]))
        fields += [_estimate(row[name], 2) for name in ("speedup", "speedup_of_merging")]
        fields += [_quality(row, name) for name in metrics]
        fields += [replace(_estimate(row.get(f"{name}_unmerged"), 2 + (name == "ssim")), sub="") for name in _BESIDE]
        lines.append(Row(tuple(fields), "control" if row["way"] == "none" else ""))
    caption = (
        "Speed and quality by way of merging and share of tokens merged away; [interval over cells] for quality, "
        "[range over batches] for speed; ≠: quality differs from no merging in as many steps by more than its interval."
    )
    return Table(f"sweep.{found['model']}", caption, tuple(heads), tuple(lines))


def _quality(row: Mapping[str, Any], name: str) -> Cell:
    found = _estimate(row[name], 3 if name == "ssim" else 2)
    gap = row.get(f"{name}_difference")
    if gap is None:
        return found
    differs = gap["low"] > 0 or gap["high"] < 0
    note = f"difference from no merging in as many steps: {gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    return Cell(found.text, found.value, tag="≠" if differs else "", parts=found.parts, note=note, sub=found.sub)


def _estimate(found: Mapping[str, float] | None, decimals: int) -> Cell:
    if found is None:
        return Cell("–", parts=(None, None))
    value, low, high = (found[name] for name in ("value", "low", "high"))
    bounds = "" if low == high else f"[{low:.{decimals}f},\u00a0{high:.{decimals}f}]"
    return Cell(f"{value:.{decimals}f}", value, parts=(low, high), sub=bounds)
