"""The DAG as a user sees it, without any bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mistline.cli import COMMANDS
from tests.conftest import Snakemake

TARGETS = ("check", "dataset", "models", "embeddings", "evaluation", "report", "viewer")


def jobs(output: str) -> dict[str, int]:
    """Read the job table of a dry run: rule -> count."""
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {match[1]: int(match[2]) for match in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def rules(repository: Path) -> dict[str, str]:
    """Return every rule that runs a command, with its text."""
    text = "\n".join(path.read_text() for path in sorted((repository / "workflow/rules").glob("*.smk")))
    blocks = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)[1:]
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


def test_dry_run_of_the_49_slides(snakemake: Snakemake) -> None:
    run = snakemake("--dry-run", "--quiet", "rules", "all")
    assert run.returncode == 0, run.stderr
    counts = jobs(run.stdout + run.stderr)
    assert counts["check_bundle"] == counts["cut_crops"] == 49
    assert counts["cut_tiles"] == 98
    assert counts["embed"] == 49 * 2 * 3


def test_every_target_resolves(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--dry-run", *paper_options, *TARGETS)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_single_file_can_be_made_alone(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--dry-run", *paper_options, "results/slides/s2/shards/niche.parquet")
    assert run.returncode == 0, run.stdout + run.stderr
    counts = jobs(run.stdout + run.stderr)
    assert counts == {"check_bundle": 1, "project_image": 1, "read_cells": 1, "cut_tiles": 1, "total": 4}


def test_only_restricts_the_slides(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--dry-run", *paper_options, "--config", "only=s1,s3", "--", "dataset")
    assert run.returncode == 0, run.stdout + run.stderr
    assert jobs(run.stdout + run.stderr)["cut_crops"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crop": {}}, "config.crop: unknown key; did you mean crops"),
        ({"models": {"x": {"model": "pca", "params": {"n_component": 5}}}}, "did you mean n_components"),
    ],
)
def test_a_wrong_config_is_one_sentence(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str], change: dict[str, object], sentence: str
) -> None:
    path = paper_cohort / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    run = snakemake("--dry-run", *paper_options, "all")
    assert run.returncode != 0
    assert sentence in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not (paper_cohort / "results").exists()


def test_a_missing_bundle_is_an_error_of_check_bundle(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str]
) -> None:
    run = snakemake(*paper_options, "--cores", "1", "results/slides/s1/bundle.json")
    assert run.returncode != 0
    log = (paper_cohort / "results/logs/check_bundle/s1.log").read_text()
    assert "bundles/s1" in log
    assert log.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in log
    assert not (paper_cohort / "results/slides/s1/bundle.json").exists()


def test_lint(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--lint", *paper_options)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_rule_has_log_benchmark_and_code_and_is_a_command(repository: Path) -> None:
    found = rules(repository)
    assert {name.replace("_", "-") for name in found} <= set(COMMANDS)
    for name, text in found.items():
        for needed in (
            "log:",
            "benchmark:",
            "mem_mb=",
            "runtime=",
            "code=",
            f"mistline {name.replace('_', '-')} ",
            "&> {log}",
        ):
            assert needed in text, f"rule {name} lacks {needed}"
        assert "retries:" not in text, f"rule {name}: retries belong to the profile"


def test_profiles_name_existing_rules(repository: Path) -> None:
    profile = yaml.safe_load((repository / "profiles/slurm/config.yaml").read_text())
    assert set(profile["set-resources"]) <= set(rules(repository))


def test_the_slurm_profile_resolves_literally(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--profile", "slurm", "--dry-run", *paper_options, "all")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "mem_mb=1000" in run.stdout, "the memory a rule asks for is not capped by this machine's"
    assert "slurm_partition=gpu" in run.stdout
