"""Where everything came from: the sidecars of a result tree, and what the jobs cost."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.core.provenance import sidecar
from mistline.report.tables import Row, Table, cell, columns, row

_JOB_NAMES = ("slide", "donor", "scale")
_PATTERNS = ("*.meta.json", "shards/*.meta.json", "he/*.meta.json", "he/shards/*.meta.json")


@dataclass(frozen=True)
class StageOrigin:
    """What the sidecars of one stage's outputs say.

    Attributes:
        stage: its name.
        n_outputs: outputs with a sidecar.
        codes: digests of the code they were made by; more than one after a change in the middle of a run.
        mistline: versions of mistline they were made by.
        settings: distinct settings, as JSON text.
    """

    stage: str
    n_outputs: int
    codes: tuple[str, ...]
    mistline: tuple[str, ...]
    settings: tuple[str, ...]


def read_origins(
    slides: Sequence[Path], dataset: Path, scores: Sequence[Path]
) -> tuple[list[StageOrigin], list[dict[str, Any]]]:
    """Read the sidecars of the slides' folders, the dataset's and the evaluations.

    Returns:
        one entry a stage by name, and the sidecars themselves.
    """
    paths = {path for folder in slides for pattern in _PATTERNS for path in folder.glob(pattern)}
    paths |= {path for pattern in ("*.meta.json", "splits/*.meta.json") for path in dataset.glob(pattern)}
    paths |= {sidecar(path) for path in scores if sidecar(path).is_file()}
    sidecars = [read_json(path) for path in sorted(paths)]
    stages = sorted({item["stage"] for item in sidecars})
    return [_origin(stage, [item for item in sidecars if item["stage"] == stage]) for stage in stages], sidecars


def _origin(stage: str, items: Sequence[Mapping[str, Any]]) -> StageOrigin:
    return StageOrigin(
        stage,
        len(items),
        tuple(sorted({item["code"] for item in items})),
        tuple(sorted({item["versions"]["mistline"] for item in items})),
        tuple(sorted({_settings(item["params"]) for item in items})),
    )


def _settings(params: Mapping[str, Any]) -> str:
    """Write settings as JSON, without what only names the job: else every slide would have settings of its own."""
    kept = {name: value for name, value in params.items() if name not in _JOB_NAMES}
    return json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False)


def versions(sidecars: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (package, version) over all sidecars; several versions of one are joined by a comma."""
    found: dict[str, set[str]] = {}
    for item in sidecars:
        for name, version in item["versions"].items():
            found.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(values))) for name, values in sorted(found.items())]


def stages_table(origins: Sequence[StageOrigin]) -> Table:
    """Return one line a stage."""
    lines = [
        row(item.stage, item.n_outputs, ", ".join(item.mistline), ", ".join(item.codes), _warning(item))
        for item in origins
    ]
    return Table(
        "stages",
        "Stages whose outputs this page shows. The digest changes with the stage's code, not with comments.",
        columns("stage", "outputs", "mistline", "code digest", "remark", numeric=("outputs",)),
        tuple(lines),
        empty="No output has a provenance sidecar.",
    )


def benchmarks_table(paths: Sequence[Path]) -> Table:
    """Return one line a rule: jobs, longest time and greatest memory, from Snakemake's benchmark files.

    Args:
        paths: `benchmarks/<rule>.tsv` or `benchmarks/<rule>/<job>.tsv`.
    """
    found: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(paths):
        rule = path.stem if path.parent.name == "benchmarks" else path.parent.name
        found.setdefault(rule, []).extend(_read_benchmark(path))
    return Table(
        "benchmarks",
        "What the jobs of each rule cost on the machine that ran them.",
        columns(
            "rule", "jobs", "time in all (s)", "longest job (s)", "peak memory (MB)",
            numeric=("jobs", "time in all (s)", "longest job (s)", "peak memory (MB)"),
        ),
        tuple(_cost(rule, jobs) for rule, jobs in sorted(found.items())),
        empty="No benchmark files were given to this run of the report.",
    )  # fmt: skip


def _warning(item: StageOrigin) -> str:
    return "made by more than one state of the code" if len(item.codes) > 1 else ""


def _cost(rule: str, jobs: Sequence[tuple[float, float | None]]) -> Row:
    seconds = [time for time, _ in jobs]
    memory = [peak for _, peak in jobs if peak is not None]
    return row(rule, len(jobs), cell(sum(seconds), 1), cell(max(seconds), 1), cell(max(memory, default=None), 0))


def _read_benchmark(path: Path) -> Iterator[tuple[float, float | None]]:
    """Yield seconds and MB of each repeat; memory is None where the job was too short to be sampled."""
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream, delimiter="\t"):
            try:
                memory = None if line["max_rss"] in {"-", "NA"} else float(line["max_rss"])
                yield float(line["s"]), memory
            except (KeyError, TypeError, ValueError):
                raise InputError(path, "not a benchmark file of Snakemake", "leave it out or run its rule") from None
