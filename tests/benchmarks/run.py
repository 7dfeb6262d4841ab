"""Print the gates of a part of the project: `python tests/benchmarks/run.py dataset`; of every part: `... all`.

Every figure is measured now, on this machine, each pair in turn; exit status 1 when a gate is missed. `all` gives each
part a process of its own, so that none inherits memory or state, and prints one table. Only `scale` keeps what it has
measured before: see its module.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[2] / "src")]

from tests.benchmarks.bench import Bench, Gate  # noqa: E402  (a script finds the repository first)

PARTS = {
    "dataset": ("projection", "whole", "crops", "export", "loader", "metacells"),
    "evaluation": ("fusion", "tasks"),
    "generation": ("generation", "merging_quality"),
    "gest": ("gest",),
    "imputation": ("imputation",),
    "report": ("report",),
    "scale": ("dag", "scale"),
    "spatia": ("spatia_images", "spatia_genes", "spatia_step", "spatia_loader", "spatia_embed"),
}
_PACKAGES = ("numpy", "tifffile", "imagecodecs", "zarr", "lmdb", "opencv-python-headless", "scikit-learn", "torch")


def main() -> int:
    """Measure and print; return the exit status."""
    wanted = _arguments()
    parts = [part for part in PARTS if wanted.part in (part, "all") and _sections(part, wanted)]
    gates = {part: _apart(part) if wanted.part == "all" else _measure(part, wanted) for part in parts}
    if wanted.keep:
        wanted.keep.write_text(json.dumps([asdict(gate) for gate in gates[wanted.part]], default=float), "utf-8")
        return 0
    print(_machine(wanted))
    print("| part | gate | ours | reference | ratio | wanted | |\n|---|---|---|---|---|---|---|")
    for part, found in gates.items():
        for gate in found:
            print(f"| {part} {_row(gate)}")
    held = [gate.passed for found in gates.values() for gate in found if gate.is_limited]
    print(f"{sum(held)} of {len(held)} gates hold")
    return int(not all(held))


def _sections(part: str, wanted: argparse.Namespace) -> list[str]:
    return [name for name in PARTS[part] if not wanted.only or name in wanted.only]


def _measure(part: str, wanted: argparse.Namespace) -> list[Gate]:
    """Measure a part in this process, and say each gate as it comes."""
    bench = Bench(wanted.work, wanted.peer, wanted.rounds, wanted.side, wanted.cells, sizes=tuple(wanted.sizes))
    gates = []
    for name in _sections(part, wanted):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        for gate in importlib.import_module(f"tests.benchmarks.{name}").measure(bench):
            print(f"  {_row(gate)}", file=sys.stderr, flush=True)
            gates.append(gate)
    return gates


def _apart(part: str) -> list[Gate]:
    """Measure a part in a process of its own; one that ends early is a gate that is missed."""
    words = [part if word == "all" else word for word in sys.argv[1:]]
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run([sys.executable, __file__, *words, "--keep", file.name])
        if done.returncode:
            return [Gate("measured to its end", "", 1, limit=0, note=f"exit status {done.returncode}")]
        return [Gate(**values) for values in json.loads(Path(file.name).read_text("utf-8"))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--only", action="append", help="measure one section; may be repeated")
    parser.add_argument("--peer", type=Path, help="a checkout with the published scripts, to measure against")
    parser.add_argument("--work", type=Path, default=Path("results/benchmark-slides"), help="keeps the slide")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each pair")
    parser.add_argument("--side", type=int, default=8192, help="pixels of the slide's side")
    parser.add_argument("--cells", type=int, default=25_000, help="cells of the slide")
    sizes = [10_000, 30_000, 100_000, 300_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="cells of the slides of scale")
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    return arguments


def _machine(wanted: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown CPU")
    slide = f"slide of {wanted.side} px, 4 planes, {wanted.cells} cells; {wanted.rounds} alternations"
    python = f"Python {platform.python_version()}, {versions}"
    return f"{datetime.date.today()}; {os.cpu_count()} cores, {model}; {python}; {slide}\n"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def _row(gate: Gate) -> str:
    reference = "" if gate.reference is None else f"{gate.reference:.4g} {gate.unit}"
    ratio = "" if gate.ratio is None else f"{gate.ratio:.2f}x"
    wanted = "" if gate.least is None else f">= {gate.least:g}x"
    wanted = wanted if gate.limit is None else f"<= {gate.limit:.4g} {gate.unit}"
    verdict = ("ok" if gate.passed else "MISSED") if gate.is_limited else ""
    note = f" ({gate.note})" if gate.note else ""
    return f"| {gate.name}{note} | {gate.ours:.4g} {gate.unit} | {reference} | {ratio} | {wanted} | {verdict} |"


if __name__ == "__main__":
    sys.exit(main())
