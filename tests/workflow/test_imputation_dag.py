"""The DAG of imputed genes, without slides or single cells."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Snakemake
from tests.workflow.test_dag import jobs
from tests.workflow.test_tables_dag import SLIDES, dry_run, folder

__all__ = ["folder"]

VALUES = {
    "slides": SLIDES,
    "models": {"near": {"model": "spage"}, "pca": {"model": "pca"}},
    "tasks": {"imputation": {"protocols": ["gene_folds"], "params": {"slides": ["t2"], "max_cells": 70}}},
    "imputation": {"reference": "single cells.h5ad", "models": ["near"], "n_genes": 7},
}


def test_genes_are_imputed_once_a_seed_and_added_once_a_slide(snakemake: Snakemake, folder: Path) -> None:
    (folder / "single cells.h5ad").touch()
    code, output = dry_run(snakemake, folder, VALUES | {"seeds": [0, 1]}, "all", "impute", "--printshellcmds")
    assert code == 0, output
    counts = jobs(output)
    assert (counts["read_reference"], counts["fold_genes"], counts["impute_folds"], counts["impute_slide"]) == (
        1,
        1,
        2,
        2,
    )
    assert counts["evaluate"] == 3
    assert "--reference 'single cells.h5ad' --values counts" in output
    assert "--slide t2 --counts results/slides/t2/counts.h5ad --genes" in output
    assert "--max-cells 70" in output
    assert (
        "--imputed results/imputed/gene_folds/near.seed-1.parquet --reference results/reference/counts.h5ad" in output
    )
    assert output.count("--genes results/imputed/gene_folds/genes.parquet") >= 5


def test_that_no_reference_is_given_is_said_before_anything_runs(snakemake: Snakemake, folder: Path) -> None:
    code, output = dry_run(snakemake, folder, VALUES | {"imputation": {}}, "all")
    assert code != 0
    assert "imputation.reference: the task imputation needs single cells, and none are given" in output
    assert "Traceback" not in output
