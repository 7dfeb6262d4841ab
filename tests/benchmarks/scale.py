"""One slide of 2,000 to 1,000,000 cells from bundle to sealed dataset: cost a cell, and memory.

    python -m tests.benchmarks.scale --folder DIR --cells N

writes a slide, runs every job of the target `dataset` in turn and keeps what each took in `DIR/N.json`. Ended early, it
goes on where it stopped. A size that is kept is not measured again: remove its file for that.

    python -m tests.benchmarks.scale --folder DIR --cells N --like-instrument

does the same to the end of the line on a slide with the instrument's pixels and four planes; `--rates DIR/N.json`,
which may be repeated, prints such figures as the table that `mistline plan` reads.

Cost is CPU seconds of a process and its children, less those of a slide of 2,000 cells: what a process needs to begin
would hide how cost grows. Plain slides have one plane, one stain, 300 genes, pixels of 0.425 um (a quarter of the
instrument's pixels) and no transcripts; cells lie as dense at every size.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from mistline.config.load import load_config
from mistline.workflow.jobs import Job, planned_jobs
from mistline.workflow.memory import NEEDS
from mistline.workflow.rates import COLUMNS, variant
from mistline.xenium.toy import ToySlide, write_bundle
from tests.benchmarks.bench import Bench, Gate, Usage, child

START_CELLS = 2000
_MOST_EXPONENT = 1.1
_MOST_GROWTH = 2  # of the peak where announced memory does not grow with cells; ten times the cells are thrice as wide
_LEAST_S = 0.3  # what a stage takes above its start is told from noise from here on
_N_GENES = 300
_N_METACELLS = 128  # a slide of 2,000 cells has no more
_PLAIN: dict[str, Any] = {"n_planes": 1, "pixel_size_um": 0.425}
_LIKE_INSTRUMENT: dict[str, Any] = {"n_planes": 4, "pixel_size_um": 0.2125}
_SLIDE = {"slide": "scale", "donor": "d1", "tissue": "toy", "disease": "healthy", "genes": _N_GENES}
_WRITER = "toy"

Figures = Mapping[str, Mapping[str, Any]]  # job -> stage, variant, cells, cpu_s, peak_mib, mem_mb, disk_mb


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of cost and memory against cells."""
    folder = bench.work / "scale"
    kept = {n_cells: _stages(_kept(folder, n_cells)) for n_cells in sorted({START_CELLS, *bench.sizes})}
    whole = {n_cells: sum(used["cpu_s"] for used in figures.values()) for n_cells, figures in kept.items()}
    written = {n_cells: figures[_WRITER]["cpu_s"] for n_cells, figures in kept.items()}
    yield _cost("dataset", {n_cells: whole[n_cells] - written[n_cells] for n_cells in kept})
    for stage in kept[START_CELLS]:
        yield _cost(stage, {n_cells: figures[stage]["cpu_s"] for n_cells, figures in kept.items()})
        yield from _memory(stage, {n_cells: figures[stage] for n_cells, figures in kept.items()})


def _cost(stage: str, cpu_s: Mapping[int, float]) -> Gate:
    """Return the gate of the exponent that a stage's cost grows by."""
    start = cpu_s[START_CELLS]
    above = {n_cells: taken - start for n_cells, taken in cpu_s.items() if n_cells > START_CELLS}
    each = ", ".join(f"{1e6 * cost / (n - START_CELLS):.3g} at {_size(n)}" for n, cost in above.items())
    note = f"start {start:.1f} s, then us a cell: {each}"
    told = [(math.log(n - START_CELLS), math.log(cost)) for n, cost in above.items() if cost >= _LEAST_S]
    name = f"{stage}: CPU against cells, exponent"
    if len(told) < 2:
        return Gate(name, "", 0.0, limit=_MOST_EXPONENT, note=f"start alone; {note}")
    fit = stats.linregress(*zip(*told, strict=True))
    if len(told) > 2:
        half = fit.stderr * stats.t.ppf(0.975, len(told) - 2)
        note = f"95 % {fit.slope - half:.2f} to {fit.slope + half:.2f}; {note}"
    return Gate(name, "", fit.slope, limit=_MOST_EXPONENT, note=note)


def _memory(stage: str, figures: Mapping[int, Mapping[str, float]]) -> Iterator[Gate]:
    """Yield the peak of a stage against what it announced, and against a tenth of the cells where it should be flat."""
    most = max(figures)
    last, tenth = figures[most], min(figures, key=lambda n_cells: abs(n_cells - most / 10))
    note = ", ".join(f"{used['peak_mib']:.0f} at {_size(n_cells)}" for n_cells, used in figures.items())
    announced = last["mem_mb"] * 1e6 / 2**20 or None
    yield Gate(f"{stage}: peak, {_size(most)} cells", "MiB", last["peak_mib"], limit=announced, note=note)
    if stage == _WRITER or not NEEDS[stage].per_million_cells:
        growth = last["peak_mib"] / figures[tenth]["peak_mib"]
        yield Gate(f"{stage}: peak, {_size(most)} against {_size(tenth)} cells", "x", growth, limit=_MOST_GROWTH)


def _size(n_cells: int) -> str:
    return f"{n_cells // 1000} k"


def _stages(figures: Figures) -> dict[str, dict[str, float]]:
    """Add up the jobs of a stage: seconds; the peak is that of the largest."""
    found: dict[str, dict[str, float]] = {}
    for used in figures.values():
        stage = found.setdefault(used["stage"], {"cpu_s": 0.0, "peak_mib": 0.0, "mem_mb": used["mem_mb"]})
        stage["cpu_s"] += used["cpu_s"]
        stage["peak_mib"] = max(stage["peak_mib"], used["peak_mib"])
    return found


def _kept(folder: Path, n_cells: int) -> Figures:
    """Return what a size took; measured where it is not kept from before."""
    path = folder / f"{n_cells}.json"
    if not path.is_file():
        run_size(folder, n_cells, _PLAIN, "dataset")
    figures: Figures = json.loads(path.read_text("utf-8"))
    return figures


def run_size(folder: Path, n_cells: int, form: Mapping[str, Any], target: str) -> None:
    """Write a slide, run the jobs of a target on it and keep what they took; the slide itself is not kept."""
    work = folder / f"{n_cells}-cells"
    work.mkdir(parents=True, exist_ok=True)
    slide = _SLIDE | {"bundle": str(work / "bundle"), "cells": n_cells}
    config: dict[str, Any] = {"slides": [slide], "seeds": [0]}
    n_metacells = min(512, n_cells // 10) if form is _LIKE_INSTRUMENT else _N_METACELLS
    config |= {"metacells": {"n_metacells": n_metacells, "min_cells": 2}}
    config |= {"models": {name: {"model": name} for name in ("pca", "image")}}
    (work / "config.yaml").write_text(json.dumps(config), "utf-8")
    path = work / "figures.json"
    figures: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if not (work / "bundle").is_dir():
        words = ["--write", work / "bundle", "--cells", str(n_cells)]
        words += ["--like-instrument"] if form is _LIKE_INSTRUMENT else []
        used = child([sys.executable, "-m", "tests.benchmarks.scale", *words])
        figures[_WRITER] = {"stage": _WRITER, "variant": "", "cells": n_cells, "mem_mb": 0} | _told(used)
        path.write_text(json.dumps(figures, indent=1), "utf-8")
    read = load_config(config, root=work)
    for job in planned_jobs(work / "config.yaml", target, work):
        used = _run(job, work)
        disk_mb = sum(_megabytes(work / item) for item in job.outputs)
        about = {"stage": job.rule, "variant": variant(job, read), "cells": n_cells, "mem_mb": job.mem_mb}
        figures[str(job.benchmark)] = about | _told(used) | {"disk_mb": disk_mb}
        path.write_text(json.dumps(figures, indent=1), "utf-8")
        print(f"{n_cells} {job.rule} {used.cpu_s:.1f} s {used.peak_mib:.0f} MiB", file=sys.stderr, flush=True)
    path.replace(folder / f"{n_cells}.json")
    shutil.rmtree(work)


def _told(used: Usage) -> dict[str, Any]:
    today = datetime.date.today().isoformat()
    return {"cpu_s": used.cpu_s, "wall_s": used.wall_s, "peak_mib": used.peak_mib, "date": today}


def _run(job: Job, folder: Path) -> Usage:
    """Run the command line of one job, as Snakemake would."""
    for path in (*job.outputs, *job.logs):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    script = f'cd "$0"; PATH="$1:$PATH"; {job.command}'
    return child(["bash", "-euo", "pipefail", "-c", script, folder, Path(sys.executable).parent])


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(item.stat().st_size for item in files if item.is_file()) / 1e6


def rate_table(paths: Sequence[Path]) -> str:
    """Return what some sizes took as the table that `mistline plan` reads."""
    lines = ["\t".join(COLUMNS)]
    for path in paths:
        for used in json.loads(path.read_text("utf-8")).values():
            if used["stage"] != _WRITER:
                mb = used["peak_mib"] * 2**20 / 1e6
                figures = (used["cells"], f"{used['cpu_s']:.2f}", "", f"{used['disk_mb']:.3f}", f"{mb:.0f}")
                lines.append("\t".join(map(str, (used["stage"], used["variant"], *figures))))
    return "\n".join(lines)


def main() -> None:
    """Write one bundle, measure one size, or print what sizes took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--like-instrument", action="store_true")
    parser.add_argument("--write", type=Path, help="write the bundle of a slide here, and nothing else")
    parser.add_argument("--rates", type=Path, action="append", help="print these figures as a table of rates")
    wanted = parser.parse_args()
    form = _LIKE_INSTRUMENT if wanted.like_instrument else _PLAIN
    if wanted.rates:
        print(rate_table(wanted.rates))
    elif wanted.write:
        slide = ToySlide("scale", "3.0", wanted.cells, n_stains=1, n_genes=_N_GENES, transcripts=False, **form)
        write_bundle(wanted.write, slide, threads=os.cpu_count() or 1)
    else:
        run_size(wanted.folder.resolve(), wanted.cells, form, "all" if wanted.like_instrument else "dataset")


if __name__ == "__main__":
    main()
