"""Print the gates of a part of the project: `python tests/benchmarks/run.py dataset`.

Every figure is measured now, on this machine, each pair in turn; exit status 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
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
    "spatia": ("spatia_images", "spatia_genes", "spatia_step", "spatia_loader", "spatia_embed"),
}
_PACKAGES = ("numpy", "tifffile", "imagecodecs", "zarr", "lmdb", "opencv-python-headless", "scikit-learn", "torch")


def main() -> int:
    """Measure and print; return the exit status."""
    wanted = _arguments()
    bench = Bench(wanted.work, wanted.peer, wanted.rounds, wanted.side, wanted.cells)
    gates: list[Gate] = []
    for name in PARTS[wanted.part]:
        if not wanted.only or name in wanted.only:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            for gate in importlib.import_module(f"tests.benchmarks.{name}").measure(bench):
                print(f"  {_row(gate)}", file=sys.stderr, flush=True)
                gates.append(gate)
    print(_machine(wanted))
    print("| gate | ours | reference | ratio | wanted | |\n|---|---|---|---|---|---|")
    for gate in gates:
        print(_row(gate))
    missed = sum(not gate.passed for gate in gates)
    print(f"{len(gates) - missed} of {len(gates)} gates hold")
    return int(missed > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--only", action="append", help="measure one section; may be repeated")
    parser.add_argument("--peer", type=Path, help="a checkout with the published scripts, to measure against")
    parser.add_argument("--work", type=Path, default=Path("results/benchmark-slides"), help="keeps the slide")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each pair")
    parser.add_argument("--side", type=int, default=8192, help="pixels of the slide's side")
    parser.add_argument("--cells", type=int, default=25_000, help="cells of the slide")
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    return arguments


def _machine(wanted: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown CPU")
    slide = f"slide of {wanted.side} px, 4 planes, {wanted.cells} cells; {wanted.rounds} alternations"
    return f"{os.cpu_count()} cores, {model}; Python {platform.python_version()}, {versions}; {slide}\n"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def _row(gate: Gate) -> str:
    reference = "" if gate.reference is None else f"{gate.reference:.4g} {gate.unit}"
    ratio = "" if gate.ratio is None else f"{gate.ratio:.2f}x"
    wanted = "" if gate.least is None else f">= {gate.least:g}x"
    wanted = wanted if gate.limit is None else f"<= {gate.limit:.4g} {gate.unit}"
    verdict = "ok" if gate.passed else "MISSED"
    note = f" ({gate.note})" if gate.note else ""
    return f"| {gate.name}{note} | {gate.ours:.4g} {gate.unit} | {reference} | {ratio} | {wanted} | {verdict} |"


if __name__ == "__main__":
    sys.exit(main())
