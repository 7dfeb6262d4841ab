"""The DAG of a cohort of tables, without any table."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Snakemake
from tests.workflow.test_dag import TARGETS, jobs

SLIDES = [
    {"slide": "t1", "table": "t 1.h5ad", "um_per_unit": 0.5, "donor": "d1", "tissue": "brain", "disease": "healthy"},
    {"slide": "t2", "table": "visium", "donor": "d2", "tissue": "brain", "disease": "healthy"},
]
TASKS = {"clustering": {"protocols": ["fixed_resolution"], "params": {"label": "layer"}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a cohort"
    folder.mkdir()
    return folder


def dry_run(snakemake: Snakemake, folder: Path, values: dict[str, object], *targets: str) -> tuple[int, str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    run = snakemake("--dry-run", "--configfile", path, "--directory", folder, *targets)
    return run.returncode, run.stdout + run.stderr


def test_every_target_resolves_without_images(snakemake: Snakemake, folder: Path) -> None:
    code, output = dry_run(snakemake, folder, {"slides": SLIDES, "tasks": TASKS}, *TARGETS, "all")
    assert code == 0, output
    counts = jobs(output)
    assert (counts["read_table"], counts["make_splits"], counts["seal_tables"]) == (2, 1, 1)
    assert (counts["train"], counts["embed"], counts["report"]) == (1, 2, 1)
    assert not set(counts) & {"check_bundle", "project_image", "cut_crops", "fit_metacells", "seal_dataset"}


def test_a_model_of_images_is_refused_before_anything_runs(snakemake: Snakemake, folder: Path) -> None:
    values = {"slides": SLIDES, "models": {"pca": {"model": "pca"}, "view": {"model": "image"}}}
    code, output = dry_run(snakemake, folder, values, "all")
    assert code != 0
    assert "models.view: the model image reads images, and the slides of this run are tables without any" in output
    assert "Traceback" not in output
    assert not (folder / "results").exists()


def test_bundles_and_tables_do_not_mix(snakemake: Snakemake, folder: Path) -> None:
    bundle = {"slide": "b1", "bundle": "b", "donor": "d3", "tissue": "brain", "disease": "healthy"}
    code, output = dry_run(snakemake, folder, {"slides": [*SLIDES, bundle]}, "all")
    assert code != 0
    assert "slides: t1 is a table and b1 a bundle; run them apart" in output


def test_only_slides_with_an_image_are_cut(snakemake: Snakemake, folder: Path) -> None:
    (folder / "i.png").write_bytes(b"")
    views = {"models": {"view": {"model": "image"}}}
    with_image = SLIDES[0] | {"image": "i.png"}
    code, output = dry_run(snakemake, folder, {"slides": [with_image, SLIDES[1]]}, "all")
    assert code == 0, output
    assert jobs(output)["cut_patches"] == 1
    code, output = dry_run(snakemake, folder, {"slides": [with_image, SLIDES[1]], **views}, "all")
    assert (code != 0, "the slides of this run are tables without any" in output) == (True, True)
    both = [with_image, SLIDES[1] | {"image": "i.png"}]
    code, output = dry_run(snakemake, folder, {"slides": both, **views}, "all")
    assert code == 0, output
    assert (jobs(output)["cut_patches"], jobs(output)["embed"]) == (2, 2)


def test_a_niche_model_waits_for_the_run_it_begins_with(snakemake: Snakemake, folder: Path) -> None:
    niche = {"model": "niche", "params": {"start": "cells"}}
    tasks = {"domains": {"protocols": ["random_spot"], "params": {"label": "layer"}, "models": ["niche"]}}
    values = {"slides": SLIDES, "models": {"cells": {"model": "gest"}, "niche": niche}, "tasks": tasks}
    code, output = dry_run(snakemake, folder, {**values, "seeds": [0, 1]}, "evaluation", "--printshellcmds")
    assert code == 0, output
    counts = jobs(output)
    assert (counts["train"], counts["predict"], "embed" in counts) == (2, 2, False)
    for seed in (0, 1):
        assert f"--start results/models/cells/seed-{seed}/config.json --folds" in output
    niche["params"]["start"] = "niche"
    code, output = dry_run(snakemake, folder, values, "evaluation")
    assert code != 0
    assert "models.niche.params.start: unknown run of gest 'niche'; choose one of cells" in output
    assert "Traceback" not in output
