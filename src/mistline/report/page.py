"""The page: sections filled from what was gathered, rendered into one self-contained file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jinja2

import mistline
from mistline.config.report import Report
from mistline.config.scales import Scale
from mistline.core.errors import OutputError
from mistline.core.log import progress
from mistline.core.processes import end_with_parent
from mistline.report import cohort, histology, metacells, origins, spots, viewer
from mistline.report.cohort import Notice
from mistline.report.generation import GenerationFiles, view_generation
from mistline.report.imputation import TASK as IMPUTATION
from mistline.report.imputation import view_imputation
from mistline.report.imputation_maps import ImputationFiles
from mistline.report.pictures import Album, SlideView, view_slide
from mistline.report.results import Results, headlines, verdict, view_results
from mistline.report.scores import Comparison
from mistline.report.significance import UNDECIDED, PairedTests
from mistline.report.sources import SlideSource
from mistline.report.tables import Table, write_csv
from mistline.report.unseen import view_unseen

BUDGET_BYTES = 25 * 10**6
_TISSUE_SHARE = 0.4  # of the budget; the viewer takes a third, charts and tables the rest
_MAPS_A_SLIDE = 3
_LARGEST_PICTURE = 450_000
_OPEN_SLIDES = 3  # with more slides only the first is unfolded
SECTIONS = {
    "overview": "Overview",
    "viewer": "Tissue viewer",
    "dataset": "Dataset card",
    "qc": "Quality control",
    "crops": "Crops and tiles",
    "exclusions": "Exclusions and problems",
    "metacells": "Meta-cells",
    "tasks": "Tasks",
    "generation": "Generated images",
    "unseen": "Filled holes",
    "imputation": "Imputed genes",
    "provenance": "Provenance",
}
_OF_IMAGES = frozenset(["crops", "metacells"])  # sections that a cohort of tables has nothing for


_LEADS = {  # by whether the slides are tables
    False: "Cells, tiles and genes of {n} Xenium slide{s} ({tissues}), keyed to one another, with quality control and "
    "results.",
    True: "Cells or spots of {n} slide{s} ({tissues}) given as tables, with quality control and results.",
}
_MADE = {
    False: "from raw 10x bundles: images projected over z (from what is named under channels below) and scaled to 8 "
    "bit with a recorded window, tables joined by cell id, one record a cell and a tile, meta-cells fitted on training "
    "cells only. Everything made from this dataset carries its version.",
    True: "from tables of cells or spots: values as given, coordinates in micrometres, joined by id. "
    "Everything made from this dataset carries its version.",
}


@dataclass(frozen=True)
class Gathered:
    """Everything the page is made of.

    Attributes:
        settings: the report section.
        version: the dataset's version.
        n_genes: size of the dataset's vocabulary.
        unseen: slide -> its genes that no slide with training cells measured.
        slides: the slides, in the sheet's order.
        scales: all scales, the cell included.
        splits, quality: contents of splits.json and metacells.json; `quality` is None for a cohort of tables.
        results: everything that was judged.
        origins, sidecars: provenance of what is shown.
        benchmarks: benchmark files, possibly none.
        root: the result folder, as commands name it.
        predictions: files of models' predictions, possibly none.
        generated: what generators of images made, possibly nothing.
        filled: files of cells that models filled holes with, possibly none.
        imputed: what was imputed of tested genes, possibly nothing.
        added: files of genes that no slide measures, as models imputed them, possibly none.
    """

    settings: Report
    version: str
    n_genes: int
    unseen: Mapping[str, int]
    slides: Sequence[SlideSource]
    scales: Sequence[Scale]
    splits: Mapping[str, Any]
    quality: Mapping[str, Any] | None
    results: Results
    origins: Sequence[origins.StageOrigin]
    sidecars: Sequence[Mapping[str, Any]]
    benchmarks: Sequence[Path]
    root: Path
    predictions: Sequence[Path] = ()
    generated: GenerationFiles = field(default_factory=GenerationFiles)
    filled: Sequence[Path] = ()
    imputed: ImputationFiles = field(default_factory=ImputationFiles)
    added: Sequence[Path] = ()


@dataclass
class _Context:
    """Values of the templates, and the tables among them, which also become CSV files."""

    values: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)

    def table(self, key: str, table: Table) -> None:
        self.values[key] = table
        self.tables.append(table)


def build(gathered: Gathered, tables: Path, figures: Path, seed: int, threads: int = 1) -> str:
    """Write figures and tables; return the page.

    Args:
        gathered: what to show.
        tables: folder of the CSV files.
        figures: folder of the PNG and SVG files.
        seed: the run's seed.
        threads: with more than one, other processes draw the slides; the page is the same.
    """
    n_pictures = len(gathered.slides) * (_MAPS_A_SLIDE + len(gathered.scales))
    n_pictures += histology.PICTURES * sum(slide.he is not None for slide in gathered.slides)
    budget = int(BUDGET_BYTES * _TISSUE_SHARE / n_pictures)
    album = Album(figures, min(_LARGEST_PICTURE, budget), seed)
    context = _Context()
    with _drawn(gathered, album, threads) as drawn:
        _overview(context, gathered)
        _dataset(context, gathered)
        _tasks(context, gathered, album)
        _generation(context, gathered, album)
        _unseen(context, gathered, album)
        _imputation(context, gathered, album)
        _provenance(context, gathered)
        views = [wait() for wait in progress(drawn, "draw")]
    _slides(context, gathered, views, album)
    if gathered.quality is not None:
        _metacells(context, gathered.quality, views, album)
    for table in context.tables:
        write_csv(table, tables)
    return render(
        omit=_omitted(gathered),
        title=gathered.settings.title,
        short_version=gathered.version[:12],
        dataset_version=gathered.version,
        viewer=viewer.build(
            gathered.slides, gathered.settings, seed, gathered.version, gathered.predictions, gathered.added
        ),
        **context.values,
    )


def _omitted(gathered: Gathered) -> frozenset[str]:
    """Return the sections that there is nothing for."""
    of_images = _OF_IMAGES if gathered.quality is None else frozenset()
    imputed = [item for item in gathered.results.comparisons if item.task == IMPUTATION]
    given = {"generation": gathered.generated, "unseen": gathered.filled, "imputation": imputed}
    return of_images | {name for name, files in given.items() if not files}


def check_size(text: str, budget: int = BUDGET_BYTES) -> int:
    """Return the page's bytes.

    Raises:
        OutputError: they are more than `budget`.
    """
    size = len(text.encode())
    if size > budget:
        raise OutputError(
            "report",
            f"the page would have {size / 1e6:.1f} MB, more than {budget / 1e6:.1f} MB",
            "restrict the run to fewer slides with only: [..]",
        )
    return size


@contextmanager
def _drawn(gathered: Gathered, album: Album, threads: int) -> Iterator[Sequence[Callable[[], SlideView]]]:
    """Yield what returns each slide's view; matplotlib draws in one thread only, so others are processes."""
    draw = _way(gathered, album)
    if threads <= 1:
        yield [partial(draw, slide) for slide in gathered.slides]
        return
    with ProcessPoolExecutor(threads - 1, get_context("spawn"), end_with_parent) as pool:
        yield [pool.submit(draw, slide).result for slide in gathered.slides]


def _way(gathered: Gathered, album: Album) -> Callable[[SlideSource], SlideView]:
    """Return what draws a slide; it can be sent to another process."""
    if gathered.quality is None:
        return partial(spots.view_spots, album=album)
    level = min(gathered.quality["levels"])
    return partial(view_slide, scales=gathered.scales, level=level, settings=gathered.settings, album=album)


def render(omit: frozenset[str] = frozenset(), **values: Any) -> str:
    """Fill the templates, sections to omit left out; every value is escaped, and one that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mistline.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sections = [
        {"id": name, "title": title, "template": f"sections/{name}.html.j2"}
        for name, title in SECTIONS.items()
        if name not in omit
    ]
    return environment.get_template("page.html.j2").render(
        sections=sections, mistline_version=mistline.__version__, **values
    )


def _overview(context: _Context, gathered: Gathered) -> None:
    slides = gathered.slides
    kept = sum(slide.cells["n_kept"] for slide in slides)
    donors = {slide.donor for slide in slides}
    facts = [("slides", f"{len(slides):,}"), ("donors", f"{len(donors):,}"), ("cells", f"{kept:,}")]
    for name in slides[0].tiles:
        facts.append((f"{name} tiles", f"{sum(slide.tiles[name] for slide in slides):,}"))
    facts += [("genes", f"{gathered.n_genes:,}"), ("dataset version", gathered.version[:12])]
    n_problems = sum(len(slide.bundle["problems"]) for slide in slides)
    context.values |= {
        "facts": facts,
        "lead": _LEADS[gathered.quality is None].format(
            n=len(slides), s="s" * (len(slides) != 1), tissues=", ".join(sorted({slide.tissue for slide in slides}))
        ),
        "made": f"Made by mistline {mistline.__version__} {_MADE[gathered.quality is None]}",
        "n_problems": n_problems,
        "headlines": [_headline(item, gathered.results.of(item)) for item in headlines(gathered.results.comparisons)],
        "n_tables": len(gathered.results.comparisons),
        "next_steps": _next_steps(gathered),
        "n_open": len(slides) if len(slides) <= _OPEN_SLIDES else 1,
    }


def _headline(comparison: Comparison, tests: PairedTests) -> Notice:
    """Say who wins a task on its first metric."""
    metric = comparison.metrics[0]
    text = f"{comparison.task} ({comparison.protocol.replace('_', ' ')}): {verdict(comparison, tests, metric)}"
    best = comparison.best(metric)
    # A lead that its test does not bear out is no good news.
    is_open = any(tests.mark(metric, entry.name).sign == UNDECIDED for entry in best)
    return Notice(text, comparison.beaten_by_control(metric) or not best or is_open)


def _next_steps(gathered: Gathered) -> list[tuple[str, str]]:
    root = gathered.root
    name = gathered.slides[0].name
    opened = {
        False: f'from mistline.data import open_dataset\n\ndata = open_dataset("{root}/dataset")',
        True: f'import anndata\n\ncounts = anndata.read_h5ad("{root}/slides/{name}/counts.h5ad")',
    }
    return [
        ("Read the dataset in Python:", opened[gathered.quality is None]),
        ("Ask what made a file, and whether it is up to date:", f"mistline why {root}/dataset/manifest.json"),
        ("Make embeddings of every slide, then judge them:", "snakemake embeddings evaluation"),
        ("See what a change of config.yaml would remake, without running it:", "snakemake -n report"),
    ]


def _dataset(context: _Context, gathered: Gathered) -> None:
    slides, splits = gathered.slides, gathered.splits
    if gathered.quality is None:
        context.table("slides_table", spots.slides_table(slides))
        context.values["scales_table"] = None
    else:
        context.table("slides_table", cohort.slides_table(slides))
        context.table("scales_table", cohort.scales_table(slides, gathered.scales))
    context.table("contents_table", cohort.contents_table(slides, gathered.unseen))
    context.table("donors_table", cohort.donors_table(slides, splits))
    context.table("splits_table", cohort.splits_table(slides, splits))
    context.values |= {"splits_sentence": cohort.splits_sentence(splits), "leak": cohort.leak_notice(splits)}


def _slides(context: _Context, gathered: Gathered, views: Sequence[SlideView], album: Album) -> None:
    slides = gathered.slides
    qc_table = spots.qc_table if gathered.quality is None else cohort.qc_table
    context.table("qc_table", qc_table(slides, {view.name: view.medians for view in views}))
    context.table("controls_table", cohort.controls_table(slides))
    context.table("exclusions_table", cohort.exclusions_table(slides))
    context.table("joins_table", cohort.joins_table(slides))
    context.table("problems_table", cohort.problems_table(slides))
    he_table = histology.he_table(slides)
    context.tables += [he_table] if he_table.rows else []
    context.values |= {
        "slides": views,
        "he_table": he_table,
        "he": {slide.name: histology.view_he(slide, album) for slide in slides},
        "level": None if gathered.quality is None else min(gathered.quality["levels"]),
        "exclusions_sentence": cohort.exclusions_sentence(slides),
    }


def _metacells(context: _Context, quality: Mapping[str, Any], views: Sequence[SlideView], album: Album) -> None:
    context.table("metacells_table", metacells.quality_table(quality))
    context.table("labels_table", metacells.labels_table(quality))
    context.values |= {
        "level": min(quality["levels"]),
        "metacells_sentence": metacells.sentence(quality),
        "metacells_pictures": metacells.pictures(quality, [view.metacell_sizes for view in views], album),
    }


def _tasks(context: _Context, gathered: Gathered, album: Album) -> None:
    view = view_results(gathered.results, gathered.slides, gathered.version, gathered.settings, album)
    context.tables += view.files
    context.values |= {
        "results": view,
        "no_tasks": "No task was evaluated: the configuration names none under tasks. A task that compares with known "
        "labels also needs slides with a labels file (the sheet's labels column).",
    }


def _generation(context: _Context, gathered: Gathered, album: Album) -> None:
    view = view_generation(gathered.generated, gathered.slides, gathered.version, album)
    context.tables += view.files if view else ()
    context.values["generation"] = view


def _unseen(context: _Context, gathered: Gathered, album: Album) -> None:
    views = view_unseen(gathered.filled, gathered.slides, gathered.version, album)
    context.tables += [view.table for view in views]
    context.values["unseen"] = views


def _imputation(context: _Context, gathered: Gathered, album: Album) -> None:
    views = view_imputation(gathered.results, gathered.imputed, gathered.slides, gathered.version, album)
    context.tables += [view.table for view in views]
    context.values["imputation"] = views


def _provenance(context: _Context, gathered: Gathered) -> None:
    context.table("stages_table", origins.stages_table(gathered.origins))
    context.table("benchmarks_table", origins.benchmarks_table(gathered.benchmarks))
    settings = [
        {"name": item.stage, "text": text} for item in gathered.origins for text in item.settings if text != "{}"
    ]
    context.values |= {"versions": origins.versions(gathered.sidecars), "settings": settings}
