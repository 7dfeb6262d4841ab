"""Imputed genes as the page shows them: what methods cost beside their ranks, calibration, and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from mistline.report.imputation_maps import ImputationFiles, draw_maps
from mistline.report.pictures import Album
from mistline.report.plots import imputed, theme
from mistline.report.plots.imputed import Calibration
from mistline.report.plots.theme import Picture
from mistline.report.results import Results
from mistline.report.scores import Comparison, Entry
from mistline.report.sources import SlideSource
from mistline.report.tables import Cell, Column, Row, Table, cell

TASK = "imputation"
_LARGEST_PICTURE = 900_000
_AGREEMENT = ("ari", "nmi", "ami")


@dataclass(frozen=True)
class ImputationView:
    """One protocol: what methods cost and how they rank, whether their sd holds, and maps; None where there is none."""

    title: str
    table: Table
    calibration: Picture | None
    maps: Picture | None


def view_imputation(
    results: Results, files: ImputationFiles, slides: Sequence[SlideSource], version: str, album: Album
) -> tuple[ImputationView, ...]:
    """Draw and tabulate what the task's own tables do not show; empty where genes were not imputed.

    Args:
        results: everything that was judged.
        files: what was imputed of tested genes.
        slides: of the cohort.
        version: of the dataset.
        album: where pictures go.

    Raises:
        InputError: a file is damaged or of another version of the dataset, or does not fit the others.
    """
    large = Album(album.folder, _LARGEST_PICTURE, album.seed)
    return tuple(
        ImputationView(
            item.protocol.replace("_", " "),
            _table(item, results.of(item).accuracy),
            _calibration(item, results, album),
            draw_maps(item, files, slides, version, large),
        )
        for item in results.comparisons
        if item.task == TASK
    )


def _table(item: Comparison, accuracy: Mapping[str, float]) -> Table:
    heads = (
        Column("name"),
        Column("kind"),
        Column("accuracy score", True, "mean rank by PCC, SSIM, RMSE and JS over the rows of the table; 1 is the best"),
        Column("seconds", True, "of fitting and imputing, all slides and folds of a seed"),
        Column("peak MB", True, "of memory, the largest of all slides and folds"),
        *(Column(name.upper(), True, "of clusters by imputed values with clusters by measured ones")
          for name in _AGREEMENT),
        Column("note"),
    )  # fmt: skip
    top = max(accuracy.values(), default=None)
    lines = [_line(entry, _score(entry, accuracy), top) for entry in item.entries]
    lines += [
        Row(
            (
                Cell(gone.name, gone.name),
                cell("control" if gone.is_control else "model"),
                *[Cell("–")] * (3 + len(_AGREEMENT)),
                cell(f"not run: {gone.reason}"),
            ),
            "control" if gone.is_control else "",
        )
        for gone in item.not_run
    ]
    caption = (
        f"{item.task}, protocol {item.protocol}: rank over the four measures of the accuracy score (★ the best, "
        "whoever it is), cost where it was made, and agreement of clusters. A rank says nothing of how far rows lie "
        "apart."
    )
    return Table(f"{item.task}.{item.protocol}.methods", caption, heads, tuple(lines))


def _score(entry: Entry, accuracy: Mapping[str, float]) -> float | None:
    """Return a row's accuracy score; a control of a single model's file is named without that model here."""
    own = [value for name, value in accuracy.items() if name == entry.name or name.startswith(f"{entry.name} (")]
    return own[0] if len(own) == 1 else accuracy.get(entry.name)


def _line(entry: Entry, accuracy: float | None, top: float | None) -> Row:
    is_best = accuracy is not None and top is not None and top - accuracy < 1e-9
    score = Cell("–") if accuracy is None else Cell(f"{accuracy:.3f}", accuracy, "best" * is_best, "★" * is_best)
    agreement = [_mean(entry, "clustering", name) for name in _AGREEMENT]
    return Row(
        (
            Cell(entry.name, entry.name, note=entry.note),
            cell("control" if entry.is_control else "model"),
            score,
            cell(_mean(entry, "seconds"), 1),
            cell(_mean(entry, "peak_mb"), 0),
            *(cell(value, 3) for value in agreement),
            Cell("", ""),
        ),
        "control" if entry.is_control else "",
    )


def _mean(entry: Entry, *keys: str) -> float | None:
    """Return the mean over seeds of a number that the task tells beside its metrics; None where it tells none."""
    found = [told for told in (_dig(about, keys) for about in entry.details) if isinstance(told, int | float)]
    return fmean(found) if found else None


def _dig(about: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        about = about.get(key) if isinstance(about, Mapping) else None
    return about


def _calibration(item: Comparison, results: Results, album: Album) -> Picture | None:
    """Draw the models that say how unsure they are."""
    drawn = []
    for entry in item.entries:
        curves = [about["calibration"] for about in entry.details if about.get("calibration")]
        if curves and not entry.is_control:
            covered = [fmean(shares) for shares in zip(*(curve["covered"] for curve in curves), strict=True)]
            drawn.append(Calibration(entry.name, curves[0]["nominal"], covered))
    if not drawn:
        return None
    models = [entry.name for one in results.comparisons for entry in one.entries if not entry.is_control]
    colours = theme.colours([*models, *(course.model for course in results.courses)])
    return theme.chart(
        partial(imputed.calibration, drawn=drawn, colours=colours),
        folder=album.folder,
        name=f"imputation.{item.protocol}.calibration",
        alt=f"shares of true values inside the intervals of {', '.join(line.name for line in drawn)}",
        caption="Intervals of a normal distribution with a model's mean and sd, over all tested genes and cells: the "
        "share of measured values that they claim to hold, against the share that they held. Below the diagonal a "
        "model is surer than it should be. Methods that give no sd have no line.",
    )
