"""Cohorts whose every job was run once, undisturbed, and what of a result may differ between two runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from safetensors import safe_open

from tests.conftest import Snakemake
from tests.e2e.faults.runner import Job, Runner, planned, tree
from tests.unit.spots.written import table, write_h5ad
from tests.unit.stages.patches import SIDE_PX, paint, write_image

# Never twice the same.
MEASURED = {
    *("seconds", "seconds_per_image", "seconds_per_cell", "peak_mb"),
    *("speedup", "speedup_of_merging", "share_of_sampling"),
}
STEPS = {"steps": 4, "save_every": 2}
PARAMS: dict[str, dict[str, Any]] = {
    "pca": {},
    "fusion": {"epochs": 2, "min_epochs": 1},
    "spatia": {"epochs": 2, "warmup_steps": 1, "train_batch": 32, "save_every": 2},
    "gest": {"steps": 6, "save_every": 2},
    "spadit": {"steps": 4, "sampling_steps": 2, "samples": 2},
    "vae": STEPS,
    "diffusion": STEPS,
    "flow": STEPS,
}
JUDGED = {
    "domains": ["gest", "fusion", "celltypist"],
    "generation": ["diffusion"],
    "imputation": ["spadit", "tangram"],
    "perturbation": ["gest"],
    "unseen_generation": ["gest"],
}


@dataclass(frozen=True)
class Line:
    """A cohort after every job; read it, do not write it."""

    folder: Path
    jobs: list[Job]

    def job(self, rule: str) -> Job:
        """Return a job of a rule, of a network where it has several."""
        found = [job for job in self.jobs if job.rule == rule]
        assert found, f"no target makes {rule}: it would be left out"
        return next((job for job in found if "gest" in job.outputs[0]), found[0])


def finish(folder: Path, jobs: Sequence[Job], runner: Runner) -> Line:
    """Run every job once."""
    from tests.e2e.in_process import in_order

    jobs = [replace(job, words=tuple("0" if word.startswith("${") else word for word in job.words)) for job in jobs]
    for job in in_order(jobs):  # without a GPU
        ended = runner(*job.words, cwd=folder)
        assert ended.code == 0, ended.output
    return Line(folder, jobs)


def whole_line(finished: Path, runner: Runner, snakemake: Snakemake, everything: bool) -> Line:
    """Train, judge and show small models on a finished dataset, in its own folder.

    Args:
        finished: the dataset's cohort, with the toy cohort's configuration in `whole.yaml`.
        runner: of the jobs.
        snakemake: for the plan.
        everything: every rule; otherwise what is needed to judge one model, and the folds of genes.
    """
    config = yaml.safe_load((finished / "whole.yaml").read_text())
    models, tasks = config["models"], config["tasks"]
    config["models"] = {name: models[name] for name in PARAMS}
    for name, params in PARAMS.items():
        models[name].setdefault("params", {}).update(params)
    for name in ("celltypist", "banksy", "tangram"):  # nothing is installed: they are "not run"
        config["models"][name] = {"model": "peer", "params": {"method": name}}
    config["tasks"] = {name: tasks[name] | {"models": judged} for name, judged in JUDGED.items()}
    tasks["unseen_generation"]["params"]["holes"].update(least_cells=10, scale=0.2)
    sweep = {"ways": ["tomesd"], "ratios": [0.5], "steps": [2], "n_cells": 8}
    config["generation"] = {"sampling": {"steps": 2}, "edits": [{"genes": ["NUCSIZE"], "n_cells": 2}], "sweep": sweep}
    targets = ("all",)
    if not everything:
        config["tasks"]["domains"]["models"] = ["gest"]
        targets = ("results/evaluation/domains/spatial_block.json", "results/imputed/gene_folds/genes.parquet")
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = [job for job in planned(finished, snakemake, *targets) if job.rule != "export_viewer"]
    return finish(finished, jobs, runner)


def line_of_tables(folder: Path, runner: Runner, snakemake: Snakemake) -> Line:
    """Take three tables, of cells on an image, as far as the sealed dataset."""
    slides = []
    for seed, name in enumerate("abc"):
        data = table(60, seed)
        data.obsm["spatial"] *= SIDE_PX / 100
        write_h5ad(folder / f"{name}.h5ad", data)
        write_image(folder / f"{name}.png", paint(seed))
        entry = {"slide": name, "table": f"{name}.h5ad", "image": f"{name}.png", "um_per_unit": 1.0}
        slides.append(entry | {"donor": f"d{seed}", "tissue": "brain", "disease": "healthy"})
    config = {"slides": slides, "patches": {"side_um": 16, "size_px": 32}, "models": {}, "tasks": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return finish(folder, planned(folder, snakemake, "dataset"), runner)


def unlike(found: Path, expected: Path) -> list[str]:
    """Return the names below two folders that differ, in more than what it took to make them."""
    ours, theirs = tree(found), tree(expected)
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return [
        name
        for name in names
        if name not in ours or name not in theirs or _content(found / name) != _content(expected / name)
    ]


def _content(path: Path) -> Any:
    """Return what a file holds, the time and the memory that its making took left out."""
    if path.name.endswith(".meta.json"):
        return json.loads(path.read_text()) | {"sha256": ""}
    if path.suffix == ".json":
        return _unmeasured(json.loads(path.read_text()))
    if path.suffix == ".parquet":
        found = pq.read_table(path)
        about = {key: _said(text) for key, text in (found.schema.metadata or {}).items()}
        return about, found.replace_schema_metadata().to_pydict()
    if path.suffix == ".safetensors":
        with safe_open(path, "numpy") as file:
            about = {key: _said(text) for key, text in (file.metadata() or {}).items()}
            return about, {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    return path.read_bytes() if path.is_file() else None


def _said(text: str | bytes) -> Any:
    try:
        return _unmeasured(json.loads(text))
    except ValueError:
        return text


def _unmeasured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmeasured(item) for key, item in value.items() if key not in MEASURED}
    return [_unmeasured(item) for item in value] if isinstance(value, list) else value
