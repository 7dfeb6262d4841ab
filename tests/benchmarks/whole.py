"""From a bundle to crops on disk, whole processes: ours as command lines, stage by stage, and the published way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.bench import Bench, Gate, Usage, alternate, child, stage
from tests.benchmarks.crops import cut_crops
from tests.benchmarks.published import measure_reference


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of the whole way."""
    used: dict[str, list[Usage]] = {"ours": [], "reference": []}
    checks: list[Usage] = []
    out, reference = bench.work / "scratch" / "whole", bench.work / "scratch" / "whole-reference"

    def ours() -> float:
        bench.scratch("whole")
        check, *stages = run_stages(bench.slide, out, threads=os.cpu_count() or 1)
        checks.append(check)
        used["ours"].append(_together(stages))
        return used["ours"][-1].cpu_s

    def published() -> float:
        bench.scratch("whole-reference")
        for name in ("crops", "cache"):
            (reference / name).mkdir()
        used["reference"].append(measure_reference(bench, reference / "crops", reference / "cache"))
        return used["reference"][-1].cpu_s

    cpu_s = alternate({"ours": ours, "reference": published}, bench.rounds)
    walls = " against ".join(f"{min(item.wall_s for item in used[name]):.1f}" for name in used)
    checked = min(check.cpu_s for check in checks)
    note = f"check-bundle, not counted, takes {checked:.1f} s more; wall {walls} s"
    yield Gate("bundle to shards, CPU", "s", cpu_s["ours"], cpu_s["reference"], least=1.8, note=note)
    peak = {name: max(item.peak_mib for item in items) for name, items in used.items()}
    yield Gate("bundle to shards, peak", "MiB", peak["ours"], peak["reference"], least=3)
    shards, everything = _megabytes(out / "cell"), _megabytes(out)
    yield Gate("crops on disk", "MB", shards, _megabytes(reference / "crops"), least=10, note="shards against LMDB")
    note = "ours with image pyramid, tables and sidecars; the reference with its image"
    yield Gate("bundle to shards, disk", "MB", everything, _megabytes(reference), note=note)


def run_stages(bundle: Path, out: Path, threads: int) -> list[Usage]:
    """Run check-bundle, project-image, read-cells and cut-crops; return what each took."""
    check, image = out / "bundle.json", ["--image", out / "image.ome.zarr", "--summary", out / "image.json"]
    about = ["--slide", "bench", "--donor", "d1", "--tissue", "toy", "--disease", "healthy", "--params", "{}"]
    tables = ["--cells", out / "cells.parquet", "--counts", out / "counts.h5ad", "--summary", out / "cells.json"]
    source = ["--bundle", bundle, "--check", check, "--params", "{}"]
    return [
        child(stage("check-bundle", "--bundle", bundle, "--report", check, *about)),
        child(stage("project-image", *source, *image, "--threads", str(threads))),
        child(stage("read-cells", *source, *tables)),
        cut_crops(out, out, out / "cell", threads),
    ]


def _together(stages: list[Usage]) -> Usage:
    """Return what stages run one after the other took: sums, and the largest peak."""
    return Usage(
        sum(item.wall_s for item in stages), sum(item.cpu_s for item in stages), max(item.peak_mib for item in stages)
    )


def _megabytes(folder: Path) -> float:
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file()) / 1e6
