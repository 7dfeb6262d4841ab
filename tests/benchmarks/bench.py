"""What every benchmark shares: the slide, child processes with their CPU time and peak memory, and the gates.

Gates are ratios of two ways measured in turn in one run, or limits on memory; never a time by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from mistline.xenium.toy import ToySlide, write_bundle

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children took.

    Args:
        wall_s: seconds from start to end.
        cpu_s: user and system seconds.
        peak_mib: largest resident memory of one process.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


# Linux counts what a process held before exec into its peak, so a small process stands between us and the command.
_WAITER = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as stream:
    print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=stream)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def child(command: Sequence[str | Path]) -> Usage:
    """Run a command to its end and return what it and its children took.

    Raises:
        RuntimeError: it failed; holds its last words.
    """
    words = list(map(str, command))
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    with tempfile.NamedTemporaryFile() as figures:
        waiter = [sys.executable, "-I", "-S", "-c", _WAITER, figures.name]
        done = subprocess.run([*waiter, *words], env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}\n{(done.stdout + done.stderr)[-4000:]}")
        return Usage(*map(float, Path(figures.name).read_text().split()))


def stage(name: str, *words: str | Path) -> list[str | Path]:
    """Return the command line of one of our stages."""
    return [sys.executable, "-m", "mistline", name, *words]


def alternate(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Call every way in turn, `rounds` times; return the median of what each returned."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: median(values) for name, values in found.items()}


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of the table: two ways compared, or one way against a limit.

    Args:
        name: what is measured.
        unit: of `ours` and `reference`.
        ours: what this project takes.
        reference: what the other way takes; None for a limit.
        least: the ratio to reach, how many times better ours is.
        limit: the most that `ours` may be, where there is no reference.
        better: `less` where smaller is better, such as seconds; `more` for rates.
        note: figures that explain the row.
    """

    name: str
    unit: str
    ours: float
    reference: float | None = None
    least: float | None = None
    limit: float | None = None
    better: str = "less"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.reference is None:
            return None
        return self.reference / self.ours if self.better == "less" else self.ours / self.reference

    @property
    def is_limited(self) -> bool:
        """Whether anything is wanted of the row; else it only tells."""
        return self.least is not None or self.limit is not None

    @property
    def passed(self) -> bool:
        """Whether the gate holds; a row of which nothing is wanted always does."""
        ratio = self.ratio
        enough = ratio is None or self.least is None or ratio >= self.least
        return enough and (self.limit is None or self.ours <= self.limit)


@dataclass(frozen=True)
class Bench:
    """Where the benchmarks work, and on what.

    Args:
        work: folder that keeps the slide between runs.
        peer: a checkout with the published scripts, which then stand in for the reference; None without one.
        rounds: alternations of each pair.
        side_px: side of the slide.
        n_cells: its cells.
        n_planes: planes of its z-stack.
        sizes: cells of the slides that cost and memory are measured on, where they are measured against size.
    """

    work: Path
    peer: Path | None = None
    rounds: int = 3
    side_px: int = 8192
    n_cells: int = 25_000
    n_planes: int = 4
    sizes: tuple[int, ...] = ()

    @property
    def _folder(self) -> Path:
        return self.work / f"{self.side_px}px-{self.n_cells}cells-{self.n_planes}planes"

    @cached_property
    def slide(self) -> Path:
        """The bundle; written at first use."""
        path = self._folder / "bundle"
        if not path.is_dir():
            shape_px = (self.side_px, self.side_px)
            toy = ToySlide("bench", "3.0", self.n_cells, n_planes=self.n_planes, n_stains=1, shape_px=shape_px)
            write_bundle(path, toy, threads=os.cpu_count() or 1)
        return path

    @cached_property
    def results(self) -> Path:
        """The result tree of the slide, sealed; made at first use by our own stages."""
        config = {
            "slides": [
                {"slide": "bench", "bundle": str(self.slide), "donor": "d1", "tissue": "toy", "disease": "healthy"}
            ],
            "metacells": {"n_metacells": min(512, max(20, self.n_cells // 50)), "min_cells": 2},
            "models": {},
        }
        (self._folder / "config.yaml").write_text(json.dumps(config), "utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile"]
        command += ["--configfile", self._folder / "config.yaml", "--directory", self._folder]
        command += ["--workflow-profile", "none", "--cores", str(os.cpu_count() or 1), "--rerun-incomplete", "dataset"]
        child(command)
        return self._folder / "results"

    def scratch(self, name: str) -> Path:
        """Return an empty folder for a measurement."""
        path = self.work / "scratch" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path
