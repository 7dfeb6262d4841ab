"""The DAG with and without an H&E, without any bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Snakemake
from tests.workflow.test_dag import jobs


@pytest.fixture
def with_he(paper_cohort: Path, paper_options: list[str]) -> list[str]:
    """The options of a cohort whose second slide has an H&E, under a name with spaces and quotes."""
    path = paper_cohort / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["slides"][1] |= {"he_image": "an h&e's image.ome.tif", "he_alignment": "matrix.csv"}
    path.write_text(yaml.safe_dump(config))
    (paper_cohort / "an h&e's image.ome.tif").touch()
    (paper_cohort / "matrix.csv").touch()
    return paper_options


def test_only_the_slide_with_an_h_and_e_gets_its_jobs(snakemake: Snakemake, with_he: list[str]) -> None:
    run = snakemake("--dry-run", "--printshellcmds", *with_he, "--", "dataset")
    assert run.returncode == 0, run.stdout + run.stderr
    counts = jobs(run.stdout + run.stderr)
    assert (counts["register_he"], counts["cut_he"], counts["cut_crops"]) == (1, 3, 3)
    assert "results/slides/s2/he/shards/cell" in run.stdout
    assert '"he": true' in run.stdout
    assert "--he-image 'an h&e'\"'\"'s image.ome.tif'" in run.stdout


def test_without_it_there_are_none(snakemake: Snakemake, with_he: list[str]) -> None:
    run = snakemake("--dry-run", "--printshellcmds", *with_he, "--config", "only=s1,s3", "--", "dataset")
    assert run.returncode == 0, run.stdout + run.stderr
    assert not {"register_he", "cut_he"} & set(jobs(run.stdout + run.stderr))
    assert '"he"' not in run.stdout


def test_the_records_of_one_scale_can_be_made_alone(snakemake: Snakemake, with_he: list[str]) -> None:
    run = snakemake("--dry-run", *with_he, "results/slides/s2/he/shards/niche")
    assert run.returncode == 0, run.stdout + run.stderr
    counts = jobs(run.stdout + run.stderr)
    assert counts["cut_tiles"] == counts["register_he"] == counts["cut_he"] == 1
    assert "cut_crops" not in counts


def test_a_missing_h_and_e_is_an_error_of_the_dry_run(
    snakemake: Snakemake, paper_cohort: Path, with_he: list[str]
) -> None:
    (paper_cohort / "matrix.csv").unlink()
    run = snakemake("--dry-run", *with_he, "--", "dataset")
    assert run.returncode != 0
    assert "matrix.csv" in run.stdout + run.stderr


def test_a_slide_without_one_has_no_h_and_e_to_make(snakemake: Snakemake, with_he: list[str]) -> None:
    run = snakemake("--dry-run", *with_he, "results/slides/s1/he/image.json")
    assert run.returncode != 0
    assert "results/slides/s1/he/image.json" in run.stdout + run.stderr
