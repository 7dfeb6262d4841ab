"""Divide the cells as one task and protocol ask: who is trained on, who is tested, in which fold."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_json, write_parquet
from mistline.core.provenance import record
from mistline.store.folds import numbers
from mistline.store.manifest import read_manifest
from mistline.store.parts import PARTS
from mistline.tasks.files import FileInputs, SlideFiles, Subject
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import check_protocol, find


def run(
    task: Annotated[str, typer.Option(help="Name in the registry of tasks.")],
    protocol: Annotated[str, typer.Option(help="Way of judging, one of the task's.")],
    slide: Annotated[list[str], typer.Option(help="Names of the slides; repeated.")],
    donor: Annotated[list[str], typer.Option(help="Donor of each slide; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    splits: Annotated[list[Path], typer.Option(help="Split file of each slide; repeated.")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    folds: Annotated[Path, typer.Option(help="The division (parquet) to write.")],
    summary: Annotated[Path, typer.Option(help="Cells of each fold and part (JSON) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the task, as JSON.")] = "{}",
) -> None:
    """Write the division; nothing is written when it leaves nothing to train on or to test."""
    module_name = find("tasks", task, "--task")
    judge = importlib.import_module(module_name)
    check_protocol(judge, task, protocol)
    if not hasattr(judge, "folds"):
        raise ConfigError("--task", f"{task} takes the splits of the dataset as they are", "leave this stage out")
    settings = load_section(judge.Params, params, f"tasks.{task}.params")
    files = [SlideFiles(*row) for row in zip(slide, donor, cells, counts, splits, strict=True)]
    version = read_manifest(manifest).version
    everyone = FileInputs(files, Subject(None, 0, version)).cells()
    table = judge.folds(everyone, settings, protocol)
    counted = _count(f"tasks.{task}, protocol {protocol}", table)
    write_parquet(folds, table)
    write_json(summary, {"task": task, "protocol": protocol, "dataset_version": version, "folds": counted})
    record(
        "assign_folds",
        outputs=[folds, summary],
        inputs={"manifest": manifest},
        params={"task": task, "protocol": protocol, **settings.model_dump(mode="json")},
        code=code_digest("assign_folds", module_name),
        seed=settings.seed,
    )


def _count(where: str, table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return fold -> part -> cells, after checking that the division is one."""
    # Slide by slide: the ids of a cohort at once would be hashed in gigabytes.
    if any(own.duplicated().any() for _, own in table["cell_id"].groupby(table["slide"], sort=False)):
        raise InputError(where, "a cell is in a fold twice", "this is a fault of the task's folds")
    counted = {}
    for fold in numbers(table):
        found = table[str(fold)].value_counts()
        counted[str(fold)] = {name: int(found.get(name, 0)) for name in PARTS}
        if not counted[str(fold)]["test"]:
            raise InputError(where, f"fold {fold} tests no cell", "label more cells or choose another protocol")
    if not counted:
        raise InputError(where, "no fold can be made of these slides", "label more cells or choose another protocol")
    return counted
