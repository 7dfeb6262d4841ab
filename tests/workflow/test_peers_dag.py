"""The DAG of published methods, without any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Snakemake
from tests.workflow.test_dag import jobs
from tests.workflow.test_tables_dag import SLIDES, dry_run

MODELS = {
    "pca": {"model": "pca"},
    "typist": {"model": "peer", "params": {"method": "celltypist"}},
    "near": {"model": "peer", "params": {"method": "banksy"}},
    "far": {"model": "peer", "params": {"method": "banksy", "options": {"lambda": 0.2}}},
}
TASKS = {
    "domains": {"protocols": ["random_spot", "unsupervised"], "params": {"label": "layer"}},
    "clustering": {"protocols": ["fixed_resolution"], "params": {"label": "layer"}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a cohort"
    folder.mkdir()
    return folder


def test_each_method_is_installed_once_and_judged_like_a_model(snakemake: Snakemake, folder: Path) -> None:
    values = {"slides": SLIDES, "models": MODELS, "tasks": TASKS, "seeds": [0, 1]}
    code, output = dry_run(snakemake, folder, values, "evaluation")
    assert code == 0, output
    counts = jobs(output)
    assert counts["peer_environment"] == 2
    assert (counts["train"], counts["embed"]) == (2, 4)
    assert counts["peer_embed"] == 2 * 2 * 2
    assert counts["peer_predict"] == 2  # random_spot, two seeds; without labels it has nothing to learn from
    assert "predict" not in counts
    # random_spot: 4 models; unsupervised and fixed_resolution: the 3 embeddings; controls once a table.
    assert counts["evaluate"] == 2 * (4 + 3 + 3) + 3


def test_a_peer_has_no_weights_to_make(snakemake: Snakemake, folder: Path) -> None:
    values = {"slides": SLIDES, "models": MODELS, "tasks": TASKS}
    code, output = dry_run(snakemake, folder, values, "models")
    assert code == 0, output
    assert "peer_embed" not in jobs(output)
    code, output = dry_run(snakemake, folder, values, "results/models/typist/seed-0/weights.safetensors")
    assert code != 0


def test_settings_of_a_method_are_checked_before_anything_runs(snakemake: Snakemake, folder: Path) -> None:
    models = {"x": {"model": "peer", "params": {"method": "banksy", "options": {"lamda": 0.2}}}}
    code, output = dry_run(snakemake, folder, {"slides": SLIDES, "models": models}, "embeddings")
    assert code != 0
    assert "unknown option 'lamda'; did you mean lambda" in output
    assert "Traceback" not in output


def test_a_task_that_cannot_judge_a_method_says_so(snakemake: Snakemake, folder: Path) -> None:
    tasks = {"clustering": {**TASKS["clustering"], "models": ["typist"]}}
    code, output = dry_run(snakemake, folder, {"slides": SLIDES, "models": MODELS, "tasks": tasks}, "evaluation")
    assert code != 0
    assert "tasks.clustering.models: typist gives prediction, the task judges embedding" in output


def test_a_method_that_imputes_genes_is_run_on_the_folds_of_the_task(snakemake: Snakemake, folder: Path) -> None:
    (folder / "single.h5ad").touch()
    values = {
        "slides": SLIDES,
        "models": {"near": {"model": "spage"}, "map": {"model": "peer", "params": {"method": "tangram"}}},
        "tasks": {"imputation": {"protocols": ["gene_folds"], "params": {"max_cells": 70}}},
        "imputation": {"reference": "single.h5ad"},
        "seeds": [0, 1],
    }
    code, output = dry_run(snakemake, folder, values, "evaluation", "--printshellcmds")
    assert code == 0, output
    counts = jobs(output)
    assert (counts["impute_folds"], counts["peer_impute"], counts["peer_environment"]) == (2, 2, 1)
    assert counts["evaluate"] == 2 * 2 + 1
    assert "--imputed results/imputed/gene_folds/map.seed-1.parquet --max-cells 70" in output
