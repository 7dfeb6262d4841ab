"""Tables of the dataset card, the quality control and the exclusions, from the slides' summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mistline.config.scales import Scale
from mistline.report.sources import SPLITS, SlideSource
from mistline.report.tables import Cell, Row, Table, cell, columns, row, share

_REASONS = {
    "no_polygon": "no polygon",
    "no_counts_row": "no row of counts",
    "outside_image": "outside the image",
    "degenerate_polygon": "degenerate polygon",
    "below_min_counts": "too few counts",
}
_TABLE_REASONS = {
    "not_in_tissue": "beside the tissue",
    "no_counts_row": "no row of counts",
    "below_min_counts": "too few counts",
}


@dataclass(frozen=True)
class Notice:
    """A sentence that stands out."""

    text: str
    is_warning: bool


def slides_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide: whose tissue it is and how it was measured."""
    titles = ("slide", "donor", "tissue", "disease", "layout", "XOA", "pixel (µm)", "image (mm)", "channels")
    lines = [
        row(
            slide.name, slide.donor, slide.tissue, slide.disease, str(slide.bundle["layout"]), str(slide.bundle["xoa"]),
            cell(slide.pixel_size_um, 4), _size(slide), _channels(slide),
        )
        for slide in slides
    ]  # fmt: skip
    return Table(
        "slides",
        "Slides. A channel's source is the z-stack (projected here) or what the bundle offers instead.",
        columns(*titles, numeric=("pixel (µm)",), notes={"image (mm)": "width and height"}),
        tuple(lines),
    )


def contents_table(slides: Sequence[SlideSource], unseen: Mapping[str, int]) -> Table:
    """Return one line a slide: what of it is in the dataset; `unseen` is what `sources.unseen_genes` found."""
    numbers = ("cells read", "cells kept", "genes", "unknown genes", *(f"{name} tiles" for name in slides[0].tiles))
    lines = [
        row(
            slide.name, slide.cells["n_read"], slide.cells["n_kept"], slide.bundle["panel"]["n_genes"],
            unseen[slide.name], *slide.tiles.values(), str(slide.bundle["panel"]["name"] or ""),
        )
        for slide in slides
    ]  # fmt: skip
    notes = {"unknown genes": "that no slide with training cells measured: no model trained here knows them"}
    return Table(
        "contents",
        "What of each slide is in the dataset. Tiles without a cell are not stored.",
        columns("slide", *numbers, "panel", numeric=numbers, notes=notes),
        tuple(lines),
        total=_total(lines, 1, skip=(3, 4)),
    )


def scales_table(slides: Sequence[SlideSource], scales: Sequence[Scale]) -> Table:
    """Return one line a scale: its size and its records."""
    sizes = [slide.pixel_size_um for slide in slides]
    lines = []
    for scale in scales:
        if scale.size_px is None:
            side = Cell("the cell's own", "the cell's own")
            n = sum(slide.cells["n_kept"] for slide in slides)
        else:
            low, high = scale.size_px * min(sizes), scale.size_px * max(sizes)
            text = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} – {high:.1f}"
            side = Cell(text, text)
            n = sum(slide.tiles[scale.name] for slide in slides)
        lines.append(row(scale.name, scale.unit, cell(scale.size_px), side, n))
    return Table(
        "scales",
        "Scales. A cell's record is the smallest square around its polygon at native resolution.",
        columns("scale", "unit", "side (px)", "side (µm)", "records", numeric=("side (px)", "side (µm)", "records")),
        tuple(lines),
    )


def donors_table(slides: Sequence[SlideSource], splits: Mapping[str, Any]) -> Table:
    """Return one line a donor: its side and its cells in each split."""
    lines = []
    for donor, side in sorted(splits["donors"].items()):
        own = [splits["slides"][slide.name]["counts"] for slide in slides if slide.donor == donor]
        lines.append(row(donor, side, len(own), *(sum(counts[name] for counts in own) for name in SPLITS)))
    numbers = ("slides", *SPLITS)
    return Table(
        "donors",
        "Donors and the side they are on, with cells in each split.",
        columns("donor", "side", *numbers, numeric=numbers),
        tuple(lines),
        total=_total(lines, 2),
    )


def splits_table(slides: Sequence[SlideSource], splits: Mapping[str, Any]) -> Table:
    """Return one line a slide: its cells in each split and its own leakage check."""
    lines = []
    for slide in slides:
        item = splits["slides"][slide.name]
        nearest = [um for um in item["leakage"]["nearest_um"].values() if um is not None]
        lines.append(
            row(
                slide.name, *(item["counts"][name] for name in SPLITS), sum(item["leakage"]["tiles_shared"].values()),
                cell(min(nearest, default=None), 1), item["undivided"] or "",
            )
        )  # fmt: skip
    numbers = (*SPLITS, "tiles shared", "nearest (µm)")
    notes = {
        "tiles shared": "tiles of any scale that hold cells of two sides",
        "nearest (µm)": "shortest distance between cells of two sides",
    }
    return Table(
        "splits",
        "Cells of each slide by split. Gap cells separate the sides and belong to none.",
        columns("slide", *numbers, "remark", numeric=numbers, notes=notes),
        tuple(lines),
        total=_total(lines, 1, skip=(6,)),
    )


def splits_sentence(splits: Mapping[str, Any]) -> str:
    """Say how the cohort was divided."""
    asked = splits["asked"]
    how = {
        "donor": "Whole donors are on one side",
        "spatial": "Each slide is divided into contiguous blocks with a gap between the sides",
        "random": "The cells of each slide are divided at random, as there are few donors and no coordinates",
    }[splits["scheme"]]
    return (
        f"{how} (scheme {splits['scheme']}; asked for {asked['val']:.0%} validation and {asked['test']:.0%} test). "
        "Everything that is fitted sees training cells only."
    )


def leak_notice(splits: Mapping[str, Any]) -> Notice:
    """Say what the leakage check found."""
    found = splits["leakage"]
    both = found["donors_on_two_sides"]
    if found["tiles_shared"] or (splits["scheme"] == "donor" and both):
        return Notice(f"Leakage: {found['tiles_shared']} tiles hold cells of two sides, donors {both}.", True)
    if splits["scheme"] == "random":
        return Notice(
            "Nothing keeps the sides apart: scores say nothing about a new donor or a new piece of tissue.", True
        )
    text = "Leakage check passed: no tile of any scale holds cells of two sides"
    if splits["scheme"] == "donor":
        return Notice(f"{text}, and no donor is on two sides.", False)
    nearest = found["nearest_um"]
    text += "." if nearest is None else f"; cells of two sides are at least {nearest:.1f} µm apart."
    if both:
        text += (
            f" {len(both)} of {len(splits['donors'])} donors are on more than one side, as this scheme has it: scores "
            "say nothing about a new donor."
        )
    return Notice(text, bool(both))


def qc_table(slides: Sequence[SlideSource], medians: Mapping[str, Mapping[str, float]]) -> Table:
    """Return one line a slide: per-cell medians, control rate and intensity window.

    Args:
        slides: the slides.
        medians: slide -> column of cells.parquet -> median.
    """
    lines = []
    for slide in slides:
        own = medians[slide.name]
        low, high = slide.image["window"][slide.channel]
        controls = int(slide.cells["control_counts"])
        lines.append(
            row(
                slide.name, slide.cells["n_kept"], cell(own["n_counts"], 0), cell(own["n_genes"], 0),
                cell(own["cell_area_um2"], 1), share(int(own["without_nucleus"]), slide.cells["n_kept"]), controls,
                share(controls, int(own["total_counts"]) + controls), cell(f"{low:.0f}\u00a0–\u00a0{high:.0f}"),
            )
        )  # fmt: skip
    titles = (
        "slide", "cells", "counts a cell", "genes a cell", "cell area (µm²)", "without nucleus", "control counts",
        "control share", "window",
    )  # fmt: skip
    notes = {
        "counts a cell": "median of transcripts of genes",
        "control share": "transcripts of control features among all transcripts in cells",
        "window": "raw intensities mapped to 0 and 255",
    }
    return Table(
        "qc",
        "Quality at a glance: medians over kept cells.",
        columns(*titles, numeric=titles[1:8], notes=notes),
        tuple(lines),
    )


def controls_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide: features of the panel that are no genes, by type."""
    types = sorted({name for slide in slides for name in slide.cells["control_features"]})
    lines = [row(slide.name, *(slide.cells["control_features"].get(name, 0) for name in types)) for slide in slides]
    if not types:
        lines = []
    return Table(
        "controls",
        "Features that are no genes, by type: counted here, and left out of everything else.",
        columns("slide", *types, numeric=types),
        tuple(lines),
        empty="The matrices of these bundles hold genes only.",
    )


def exclusions_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide: how many cells were left out for which reason."""
    usual = _REASONS if any(slide.image for slide in slides) else _TABLE_REASONS
    reasons = list(usual) + sorted({name for slide in slides for name in slide.cells["excluded"]} - set(usual))
    titles = tuple(usual.get(name, name.replace("_", " ")) for name in reasons)
    lines = [
        row(
            slide.name, slide.cells["n_read"], *(slide.cells["excluded"].get(name, 0) for name in reasons),
            slide.cells["n_kept"], share(slide.cells["n_kept"], slide.cells["n_read"]),
        )
        for slide in slides
    ]  # fmt: skip
    numbers = ("read", *titles, "kept", "kept share")
    total = _total(lines, 1, skip=(len(numbers),))
    return Table(
        "exclusions",
        "Cells by what became of them. Each is excluded once, with its first reason; the numbers add up.",
        columns("slide", *numbers, numeric=numbers),
        tuple(lines),
        total=total,
    )


def exclusions_sentence(slides: Sequence[SlideSource]) -> str:
    """Say how many cells were left out in all."""
    read = sum(slide.cells["n_read"] for slide in slides)
    kept = sum(slide.cells["n_kept"] for slide in slides)
    if read == kept:
        return f"All {read:,} cells of the bundles are in the dataset."
    return f"{read - kept:,} of {read:,} cells are not in the dataset; nothing was filled in for them."


def joins_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line a slide: ids that one table has and another lacks."""
    names = sorted({name for slide in slides for name in slide.cells["joins"]})
    titles = tuple(name.replace("_", " ") for name in names)
    lines = [row(slide.name, *(slide.cells["joins"].get(name, 0) for name in names)) for slide in slides]
    return Table(
        "joins", "Ids missed on either side of each join.", columns("slide", *titles, numeric=titles), tuple(lines)
    )


def problems_table(slides: Sequence[SlideSource]) -> Table:
    """Return one line for each thing that the bundle check found."""
    lines = [
        row(slide.name, problem["level"], problem["what"], problem["remedy"])
        for slide in slides
        for problem in slide.bundle["problems"]
    ]
    return Table(
        "problems",
        "What the bundle check found, and what to do about it.",
        columns("slide", "level", "what", "remedy"),
        tuple(lines),
        empty="The bundle check found nothing to complain about.",
    )


def _size(slide: SlideSource) -> Cell:
    rows, cols = slide.image["shape_px"]
    width, height = (side * slide.pixel_size_um / 1000 for side in (cols, rows))
    return cell(f"{width:.2f} × {height:.2f}")


def _channels(slide: SlideSource) -> Cell:
    return cell(", ".join(f"{name} ({slide.image['source'][name]})" for name in slide.image["channels"]))


def _total(lines: Sequence[Row], first: int, skip: Sequence[int] = ()) -> Row | None:
    """Return the line of sums from column `first` on; one line needs none."""
    if len(lines) < 2:
        return None
    width = len(lines[0].cells)
    fields = [Cell("all")] + [Cell("")] * (width - 1)
    for place in range(first, width):
        values = [line.cells[place].value for line in lines]
        if place not in skip and all(isinstance(value, int) for value in values):
            fields[place] = cell(sum(values))
    return Row(tuple(fields))
