"""Command plan: what a run of a config takes, said before anything runs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mistline.config.load import load_config
from mistline.config.root import Config
from mistline.core.errors import ConfigError, ResourceError
from mistline.workflow.jobs import SNAKEFILE, planned_jobs
from mistline.workflow.memory import ASSUMED_CELLS
from mistline.workflow.plan import Plan, make_plan
from mistline.workflow.rates import measured_points, read_rates
from mistline.workflow.schedule import Nodes, Schedule

_HOUR = 3600
_LISTED = 12
_WIDTH = 120


def run(
    config: Annotated[Path, typer.Argument(help="the config.yaml to plan for")],
    target: Annotated[str, typer.Option(help="a target of the Snakefile, or a file")] = "all",
    nodes: Annotated[int, typer.Option(min=1, help="machines to run on")] = 1,
    cores: Annotated[int | None, typer.Option(min=1, help="of each; as many as this machine has by default")] = None,
    memory: Annotated[int | None, typer.Option(min=1, help="megabytes of each; this machine's by default")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="of each; with none, jobs that ask for one run without")] = 0,
    directory: Annotated[
        Path, typer.Option(help="where it will run: what is made there is not planned again")
    ] = Path(),
    whole: Annotated[bool, typer.Option("--whole", help="plan what is made already, too")] = False,
    measured: Annotated[
        Path | None, typer.Option(help="working directory of a run of this config, or of some of its slides: its rates")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say hours, memory and disk of every stage, and how long a run on some nodes would take."""
    settings = _read_config(config, directory)
    rates, origin = read_rates()
    jobs = planned_jobs(config, target, directory, everything=whole)
    if measured is not None:
        known = jobs if whole else planned_jobs(config, target, directory, everything=True)
        points = measured_points(measured, known, settings)
        rates = rates.updated(points)
        origin = f"{len(points)} jobs measured in {measured}; what was not measured there: {origin}"
    machine = Nodes(nodes, cores or len(os.sched_getaffinity(0)), memory or _memory_mb(), gpus)
    plan = make_plan(jobs, settings, rates, machine.cores)
    schedules, refused = None, None
    try:
        schedules = plan.schedules(machine)
    except ResourceError as error:  # what the stages take is worth telling all the same
        refused = error
    if as_json:
        typer.echo(json.dumps(_document(plan, machine, schedules, origin), indent=2, ensure_ascii=False))
    else:
        _print(plan, machine, schedules, origin)
    if refused:
        raise refused


def _read_config(path: Path, folder: Path) -> Config:
    if not folder.is_dir():
        raise ConfigError(str(folder), "no such folder", "make it, or name the one it will run in")
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else "no config file"
        raise ConfigError(str(path), what, "give a YAML file as README.md describes it") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), "holds no settings", "give a YAML file as README.md describes it")
    with chdir(folder):  # paths in a config are relative to where it will run
        return load_config(values, root=SNAKEFILE.parent)


def _memory_mb() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)


def _document(
    plan: Plan, machine: Nodes, schedules: tuple[Schedule, Schedule] | None, origin: str
) -> dict[str, object]:
    """Return the plan as JSON values; hours come in pairs, at least and at most."""
    found: dict[str, object] = {
        "slides": plan.slides,
        "cells": plan.cells,
        "slides_of_assumed_size": plan.assumed,
        "jobs": len(plan.jobs),
        "stages": [dataclasses.asdict(stage) for stage in plan.stages],
        "not_measured": plan.not_measured,
        "nodes": dataclasses.asdict(machine),
        "rates": origin,
        "schedule": None,
    }
    if schedules:
        found["schedule"] = {
            "hours": [schedule.seconds / _HOUR for schedule in schedules],
            "busy": [schedule.busy for schedule in schedules],
            "critical_hours": [schedule.critical_s / _HOUR for schedule in schedules],
            "critical_path": [plan.jobs[index].outputs[0] for index in schedules[1].critical],
        }
    return found


def _print(plan: Plan, machine: Nodes, schedules: tuple[Schedule, Schedule] | None, origin: str) -> None:
    console = Console(highlight=False, width=_WIDTH)
    lines = _schedule_lines(plan, machine, schedules) if schedules else []
    console.print(f"{plan.slides} slides, {plan.cells / 1e6:.3g} M cells, {len(plan.jobs):,} jobs.")
    console.print(_table(plan), *lines, *_remarks(plan), f"Rates: {escape(origin)}", sep="\n")


def _table(plan: Plan) -> Table:
    table = Table(Column("stage", no_wrap=True), box=None, pad_edge=False)
    for name in ("jobs", "CPU hours", "longest job, min", "MB asked", "GB written", "beyond measured"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in plan.stages:
        if stage.not_measured == stage.jobs:
            hours, longest, disk, beyond = "not measured", "", "", ""
        else:
            some = "+" if stage.not_measured else ""
            hours, disk = f"{_between(stage.cpu_hours)}{some}", f"{stage.disk_gb:,.2f}{some}"
            longest, beyond = _between([60 * value for value in stage.longest_hours]), f"{_short(stage.beyond)}x"
        table.add_row(stage.stage, f"{stage.jobs:,}", hours, longest, f"{stage.memory_mb:,}", disk, beyond)
    hours = _between([sum(stage.cpu_hours[end] for stage in plan.stages) for end in (0, 1)])
    disk = f"{sum(stage.disk_gb for stage in plan.stages):,.2f}"
    memory = max((stage.memory_mb for stage in plan.stages), default=0)
    table.add_row("all", f"{len(plan.jobs):,}", hours, "", f"{memory:,}", disk, "", style="bold")
    return table


def _schedule_lines(plan: Plan, machine: Nodes, schedules: tuple[Schedule, Schedule]) -> list[str]:
    size = f"{machine.cores} cores, {machine.memory_mb / 1e3:,.0f} GB and {machine.gpus} GPUs"
    hours = _between([schedule.seconds / _HOUR for schedule in schedules])
    busy = _between([100 * schedule.busy for schedule in schedules])
    critical = _between([schedule.critical_s / _HOUR for schedule in schedules])
    stages = dict.fromkeys(plan.jobs[index].rule for index in schedules[1].critical)
    return [
        f"On {machine.n} nodes of {size}: {hours} hours; jobs hold {busy} % of the cores' time.",
        f"Longest chain of jobs, on any number of nodes: {critical} hours ({', '.join(stages)}).",
        "Of two figures the first is the line through the measured jobs, with all threads of a job busy where that was",
        "not measured; the second is in proportion to the largest measured job, with one of them busy.",
    ]


def _remarks(plan: Plan) -> list[str]:
    """Return what the figures leave out or take for granted."""
    lines = []
    if plan.assumed:
        lines.append(f"{plan.assumed} slides announce no cells: {ASSUMED_CELLS:,} are assumed for each.")
    if plan.not_measured:
        n_jobs = sum(stage.not_measured for stage in plan.stages)
        lines.append(f"Not measured, so not in hours and disk: {n_jobs} jobs of {_some(plan.not_measured)}.")
    n_gpu = sum(stage.gpu_jobs for stage in plan.stages)
    if n_gpu:
        lines.append(f"{n_gpu} jobs ask for a GPU; the rates that come with mistline are of CPUs.")
    late = [f"{stage.over_limit} of {stage.stage}" for stage in plan.stages if stage.over_limit]
    if late:
        lines.append(f"Longer, at least, than the runtime their rule asks for: {_some(late)}.")
    return [*lines, "Image and panel are taken to be like those of the measured slides."]


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _LISTED} kinds more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _between(pair: Sequence[float]) -> str:
    low, high = map(_short, pair)
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
