"""Files that models read besides the dataset: a dry run says which is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Snakemake

SHA256 = {"image_weights_sha256": "0" * 64}


def dry_run(
    snakemake: Snakemake, cohort: Path, options: list[str], params: dict[str, object], model: str = "spatia"
) -> tuple[int, str]:
    path = cohort / "config.yaml"
    models = {"joint": {"model": model, "params": params}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"models": models}))
    run = snakemake("--dry-run", "--quiet", "all", *options, "all")
    assert "Traceback" not in run.stdout + run.stderr
    assert not (cohort / "results").exists()
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"image_weights": "w/vit.safetensors", **SHA256}, "models.joint.params: w/vit.safetensors: no such file"),
        ({"gene_vectors": "genes.parquet"}, "models.joint.params: genes.parquet: no such file; correct the path"),
        ({"mask_ration": 0.5}, "unknown key; did you mean mask_ratio"),
    ],
)
def test_what_a_dry_run_refuses(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str], params: dict[str, object], sentence: str
) -> None:
    code, said = dry_run(snakemake, paper_cohort, paper_options, params)
    assert code != 0
    assert sentence in said


def test_a_gated_encoder_says_how_its_weights_are_had(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str]
) -> None:
    code, said = dry_run(snakemake, paper_cohort, paper_options, {"preset": "uni"}, model="encoder")
    assert code != 0
    assert "accept the terms of huggingface.co/MahmoodLab/UNI with your own account" in said


def test_files_that_are_there_are_found_from_the_working_directory(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str]
) -> None:
    (paper_cohort / "genes.parquet").touch()  # read when training begins, not before
    code, said = dry_run(snakemake, paper_cohort, paper_options, {"gene_vectors": "genes.parquet"})
    assert code == 0, said
