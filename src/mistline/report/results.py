"""The results as the page shows them: a table at a glance, then each task with its protocols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mistline.config.report import Report
from mistline.core.errors import ConfigError
from mistline.report import courses as training
from mistline.report.ablations import ablation_table
from mistline.report.courses import Course
from mistline.report.embeddings import embedding_maps
from mistline.report.pictures import Album
from mistline.report.plots import theme
from mistline.report.plots.theme import Picture
from mistline.report.results_charts import HEADLINES, detail_charts, label_curve, labelled_share, score_chart
from mistline.report.results_maps import maps
from mistline.report.results_tables import glance_table, score_table
from mistline.report.scores import Comparison
from mistline.report.significance import PairedTests
from mistline.report.sources import SlideSource
from mistline.report.tables import Table

_BUDGET_BYTES = 2.5 * 10**6  # of all maps, of tissue and of embeddings
_LARGEST_PICTURE = 300_000
_MOST_HEADLINES = 8


@dataclass(frozen=True)
class Results:
    """The files of everything that was judged.

    Attributes:
        comparisons: by task and protocol.
        tests: (task, protocol) -> what the stage compare found.
        answers: evaluation file -> what its rows say of each scored cell.
        courses: of the trainings.
        embeddings: files, model after model, each in the order of the slides.
    """

    comparisons: Sequence[Comparison] = ()
    tests: Mapping[tuple[str, str], PairedTests] | None = None
    answers: Mapping[Path, Path] | None = None
    courses: Sequence[Course] = ()
    embeddings: Sequence[Path] = ()

    def of(self, item: Comparison) -> PairedTests:
        """Return the tests of a table."""
        return (self.tests or {}).get((item.task, item.protocol), PairedTests())


@dataclass(frozen=True)
class Block:
    """One protocol of a task.

    Attributes:
        id, title: of its heading.
        is_oracle: whether labels picked a setting.
        is_folded: whether the page shows it only on demand.
        sentence: what was judged how.
        table: the first metrics; `more` has all of them, None where these are all.
        ablation: rows that differ by one part; None where none was asked for.
        verdicts: who wins, metric by metric.
        pictures, details: charts and maps: shown, and shown on demand.
    """

    id: str
    title: str
    is_oracle: bool
    is_folded: bool
    sentence: str
    table: Table
    more: Table | None
    ablation: Table | None
    verdicts: tuple[str, ...]
    pictures: tuple[Picture, ...]
    details: tuple[Picture, ...]


@dataclass(frozen=True)
class TaskView:
    """A task, its protocols, and the curve over them where there is one."""

    name: str
    blocks: tuple[Block, ...]
    curve: Picture | None


@dataclass(frozen=True)
class ResultsView:
    """Everything of the section; `files` are the tables that become CSV."""

    glance: Table
    tasks: tuple[TaskView, ...]
    embeddings: tuple[Picture, ...]
    training: tuple[Picture, ...]
    files: tuple[Table, ...]


def pair_answers(scores: Sequence[Path], answers: Sequence[Path]) -> dict[Path, Path]:
    """Pair evaluation files with what their rows say of each cell, given in the same order, or not at all.

    Raises:
        ConfigError: they are not equally many.
    """
    if answers and len(answers) != len(scores):
        what = f"{len(scores)} evaluations and {len(answers)} files of answers"
        raise ConfigError("report", what, "give --answers once an evaluation, or not at all")
    return dict(zip(scores, answers, strict=False))


def view_results(results: Results, slides: Sequence[SlideSource], version: str, settings: Report, album: Album
                 ) -> ResultsView:  # fmt: skip
    """Draw and tabulate all results.

    Args:
        results: the files.
        slides: of the cohort, for maps.
        version: of the dataset.
        settings: how many maps.
        album: where pictures go; their size is decided here.
    """
    items = results.comparisons
    models = {entry.name for item in items for entry in item.entries if not entry.is_control}
    colours = theme.colours([*models, *(course.model for course in results.courses)])
    n_pictures = len(items) * settings.maps_per_table + len(results.embeddings) // max(len(slides), 1)
    small = Album(album.folder, int(min(_LARGEST_PICTURE, _BUDGET_BYTES / max(n_pictures, 1))), album.seed)
    glance = glance_table(items, [results.of(item) for item in items])
    tasks, files = [], [glance] if items else []
    for name, group in groupby(items, key=lambda item: item.task):
        own = list(group)
        curve = label_curve(own, colours, album)
        blocks = []
        for item in own:
            full, steps = score_table(item, results.of(item), item.metrics), ablation_table(item, results.of(item))
            files += [full, *([steps] if steps else [])]
            is_step = curve is not None and _is_step(item)
            pictures = tuple(_pictures(results, item, slides, settings, (small, album), colours)) if not is_step else ()
            blocks.append(_block(results, item, full, is_step, score_chart(item, colours, album), pictures))
        tasks.append(TaskView(name, tuple(sorted(blocks, key=lambda block: block.is_folded)), curve))
    return ResultsView(
        glance,
        tuple(tasks),
        tuple(embedding_maps(results.embeddings, slides, version, settings, small)),
        tuple(training.model_charts(results.courses, colours, album)),
        tuple(files),
    )


def headlines(items: Sequence[Comparison]) -> list[Comparison]:
    """Return the tables that the overview tells of: no oracles, and no steps of a curve."""
    return [item for item in items if not item.is_oracle and not _is_step(item)][:_MOST_HEADLINES]


def _is_step(item: Comparison) -> bool:
    """Return whether a table is one of several that differ in the labels trained on."""
    return "few" in item.protocol and labelled_share(item) is not None


def about(item: Comparison, tests: PairedTests) -> str:
    """Say what was judged how, in the task's own words where it gives them."""
    told = [str(item.settings[key]) for key in ("protocol", "interval") if item.settings.get(key)]
    seeds = sorted({seed for entry in item.entries if not entry.is_control for seed in entry.seeds})
    several = (
        f"over {len(seeds)} seeds the mean is shown, with the widest bounds of any seed"
        if len(seeds) > 1
        else "one seed: the scatter between trainings is not known"
    )
    sentences = [f"{item.n:,} items scored", *told, several, tests.sentence()]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)


def _block(
    results: Results, item: Comparison, full: Table, is_folded: bool, chart: Picture, pictures: tuple[Picture, ...]
) -> Block:
    tests = results.of(item)
    title = item.protocol.replace("_", " ")
    first = item.metrics[:HEADLINES]
    shown = score_table(item, tests, first)
    more = None if len(first) == len(item.metrics) else score_table(item, tests, item.metrics, f"{full.name}.all")
    split = [picture for picture in pictures if picture.name.endswith(".map")]
    return Block(
        f"{item.task}.{item.protocol}",
        title,
        item.is_oracle,
        is_folded,
        about(item, tests),
        shown,
        more,
        ablation_table(item, tests),
        tuple(verdict(item, tests, metric) for metric in first),
        (chart, *split),
        tuple(picture for picture in pictures if picture not in split),
    )


def verdict(item: Comparison, tests: PairedTests, metric: str) -> str:
    """Say who wins, with what the paired test of the best model shows."""
    model = next((entry for entry in item.ranked(metric) if not entry.is_control), None)
    return item.verdict(metric, tests.verdict(metric, model.name) if model and not item.own_truth else "")


def _pictures(
    results: Results,
    item: Comparison,
    slides: Sequence[SlideSource],
    settings: Report,
    albums: tuple[Album, Album],
    colours: Mapping[str, str],
) -> Iterator[Picture]:
    small, album = albums
    yield from maps(item, results.answers or {}, slides, settings.maps_per_table, small)
    yield from detail_charts(item, colours, album)
    course = training.table_chart(results.courses, (item.task, item.protocol), colours, album)
    if course is not None:
        yield course
