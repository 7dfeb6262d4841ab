"""A dry run of `all` in the shipped config.yaml with 500 slides: CPU seconds of Snakemake, as a user starts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import yaml

from tests.benchmarks.bench import REPOSITORY, Bench, Gate, child

_SLIDES = 500
_LIMIT_S = 60


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gate of the dry run; the slides are those of the sheet that comes with mistline, over and over."""
    folder = bench.scratch("dag")
    header, *rows = (REPOSITORY / "workflow/resources/mist_v1_slides.tsv").read_text("utf-8").splitlines()
    lines = [header, *(f"s{number}-{rows[number % len(rows)]}" for number in range(_SLIDES))]
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8")) | {"slides": str(folder / "slides.tsv")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder]
    command += ["--configfile", folder / "config.yaml", "--cores", "64", "--dry-run", "--quiet", "rules", "--", "all"]
    used = child(command)
    note = f"peak {used.peak_mib:.0f} MiB"
    yield Gate(f"dry run of all, {_SLIDES} slides, CPU", "s", used.cpu_s, limit=_LIMIT_S, note=note)
