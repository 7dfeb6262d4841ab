"""What a job takes, foretold from jobs that were measured: seconds and bytes as a straight line in cells.

Beyond the largest measured job seconds are two figures: on the line of least squares, at least; in proportion to that
job, at most. They meet where a job's start is short beside the rest, as it is once a large slide was measured.

`rates.tsv` beside this file holds the measured jobs that come with mistline; its first lines say where they are from.
A finished run brings its own: the files that Snakemake's `benchmark:` left, and the size of what its jobs wrote.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mistline.config.root import Config
from mistline.core.errors import InputError
from mistline.workflow.jobs import Job
from mistline.workflow.memory import ASSUMED_CELLS

RATES = Path(__file__).with_name("rates.tsv")
COLUMNS = ("stage", "variant", "cells", "cpu_s", "wall_s", "disk_mb", "peak_mb")


@dataclass(frozen=True, slots=True)
class Point:
    """A measured job.

    Args:
        stage: its rule.
        variant: what else its cost depends on, such as the model; as `variant` gives it.
        cells: of the slides it worked on.
        cpu_s: seconds of all its cores.
        wall_s: seconds from start to end; None where the machine was shared and they tell nothing.
        disk_mb: megabytes it left.
        peak_mb: largest resident memory in megabytes.
    """

    stage: str
    variant: str
    cells: int
    cpu_s: float
    wall_s: float | None
    disk_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job is expected to take; of seconds, at least and at most.

    Args:
        cpu_s: seconds of all its cores.
        wall_s: seconds from start to end. Where that was not measured: all its threads are busy, or one of them.
        disk_mb: megabytes it leaves.
        beyond: its cells over those of the largest job measured; more than 1 is extrapolated.
    """

    cpu_s: tuple[float, float]
    wall_s: tuple[float, float]
    disk_mb: float
    beyond: float


class Rates:
    """Costs of jobs from measured ones of the same stage and variant."""

    def __init__(self, points: Iterable[Point]) -> None:
        self._points: dict[tuple[str, str], list[Point]] = {}
        for point in points:
            self._points.setdefault((point.stage, point.variant), []).append(point)

    def updated(self, points: Iterable[Point]) -> Rates:
        """Return these rates, with a stage and variant replaced wherever `points` measured it."""
        found = Rates(points)
        found._points = self._points | found._points
        return found

    def cost(self, stage: str, variant: str, cells: int, threads: int) -> Cost | None:
        """Return what a job takes; None where no job like it was measured."""
        points = self._points.get((stage, variant))
        if not points:
            return None
        sizes = [point.cells for point in points]
        cpu_s = _between(sizes, [point.cpu_s for point in points], cells)
        walls = [point.wall_s for point in points if point.wall_s is not None]
        wall_s = _between(sizes, walls, cells) if len(walls) == len(points) else (cpu_s[0] / threads, cpu_s[1])
        disk_mb = _on_line(sizes, [point.disk_mb for point in points], cells)
        return Cost(cpu_s, wall_s, disk_mb, cells / max(1, *sizes))


def _between(sizes: Sequence[int], values: Sequence[float], size: int) -> tuple[float, float]:
    """Return a value at a size on the line; beyond the largest size, also in proportion to what it was there."""
    least, most = _on_line(sizes, values, size), max(1, *sizes)
    return least, max(least, _on_line(sizes, values, most) * size / most) if size > most else least


def _on_line(sizes: Sequence[int], values: Sequence[float], size: int) -> float:
    """Return the value at a size on the line of least squares; of sizes that are all the same, in proportion."""
    mean_size, mean = sum(sizes) / len(sizes), sum(values) / len(values)
    spread = sum((item - mean_size) ** 2 for item in sizes)
    if not spread:
        return mean * size / max(1.0, mean_size)
    slope = sum((item - mean_size) * (value - mean) for item, value in zip(sizes, values, strict=True)) / spread
    slope = max(0.0, slope)  # cost that seems to fall with cells is noise
    return max(0.0, mean - slope * mean_size) + slope * size


def variant(job: Job, config: Config) -> str:
    """Return what a job's cost depends on beside cells: model and settings, side of tiles, task, protocol."""
    sides = {scale.name: f"{scale.size_px} px" for scale in config.grid_scales}
    words = []
    for name, value in sorted(job.wildcards.items()):
        if name in ("slide", "seed"):
            continue
        if value in config.models:
            run = config.models[value]
            value = f"{run.model} {json.dumps(run.params, sort_keys=True)}" if run.params else run.model
        words.append(sides.get(value, value))
    return ", ".join(words)


def job_cells(job: Job, cells: Mapping[str, int | None]) -> int:
    """Return the cells of a job's slide, or of all slides; a slide that announces none is taken for a usual one.

    Args:
        job: the job.
        cells: slide -> what the sheet announces.
    """
    slides = [job.wildcards["slide"]] if "slide" in job.wildcards else list(cells)
    return sum(cells[slide] or ASSUMED_CELLS for slide in slides)


def read_rates(path: Path = RATES) -> tuple[Rates, str]:
    """Return the rates of a table and its first lines, which say where they are from.

    Raises:
        InputError: it lacks a column, or holds what is no number.
    """
    lines = path.read_text("utf-8").splitlines()
    origin = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    try:
        return Rates([_point(row) for row in rows]), origin
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), f"no table of rates ({error})", f"its columns are {', '.join(COLUMNS)}") from error


def _point(row: Mapping[str, str]) -> Point:
    return Point(
        stage=row["stage"],
        variant=row["variant"],
        cells=int(row["cells"]),
        cpu_s=float(row["cpu_s"]),
        wall_s=float(row["wall_s"]) if row["wall_s"] else None,
        disk_mb=float(row["disk_mb"]),
        peak_mb=float(row["peak_mb"]),
    )


def measured_points(folder: Path, jobs: Sequence[Job], config: Config) -> list[Point]:
    """Return what jobs of a config took in a run of it, or of some of its slides.

    Args:
        folder: where it was run; holds `results/`.
        jobs: every job of the config.
        config: the config.

    Raises:
        InputError: nothing was measured there.
    """
    done = [job for job in jobs if job.benchmark and (folder / job.benchmark).is_file()]
    if not done:
        remedy = "name the working directory of a run of this config, or of some of its slides (only=...)"
        raise InputError(str(folder), "holds no benchmarks of this config's jobs", remedy)
    names = {job.wildcards["slide"] for job in done if "slide" in job.wildcards}
    cells = {slide.slide: slide.cells for slide in config.active_slides if not names or slide.slide in names}
    return [_read_benchmark(folder, job, variant(job, config), job_cells(job, cells)) for job in done]


def _read_benchmark(folder: Path, job: Job, told: str, cells: int) -> Point:
    """Read the file Snakemake left; a job too short for its sampling has no CPU seconds or memory of its own."""
    path = folder / str(job.benchmark)
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t"))
    try:
        wall_s = float(rows[-1]["s"])
        cpu_s = _number(rows[-1]["cpu_time"], wall_s)
        peak_mb = _number(rows[-1]["max_rss"], 0.0) * 2**20 / 1e6
    except (IndexError, KeyError, ValueError) as error:
        raise InputError(str(path), "no benchmark file of Snakemake", "remove it") from error
    disk_mb = sum(_megabytes(folder / output) for output in job.outputs)
    return Point(job.rule, told, cells, cpu_s, wall_s, disk_mb, peak_mb)


def _number(text: str, otherwise: float) -> float:
    return otherwise if text in ("NA", "-", "") else float(text)


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(item.stat().st_size for item in files if item.is_file()) / 1e6
