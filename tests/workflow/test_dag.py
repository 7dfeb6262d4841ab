"""The DAG as a user sees it, without any bundle."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
import yte

from mistline.cli import COMMANDS
from tests.conftest import REPOSITORY, Snakemake

TARGETS = ("check", "dataset", "models", "embeddings", "impute", "evaluation", "report", "viewer")


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


@pytest.mark.parametrize("profile", sorted(path.name for path in (REPOSITORY / "profiles").iterdir() if path.is_dir()))
def test_profiles_name_existing_rules(repository: Path, profile: str) -> None:
    """Snakemake says nothing about a rule it does not know."""
    content = yaml.safe_load((repository / "profiles" / profile / "config.yaml").read_text())
    named = {rule for option in ("set-resources", "set-threads", "groups") for rule in content.get(option, ())}
    assert named <= set(rules(repository))
    assert "retries" not in content or profile == "slurm"


def test_every_line_of_a_profile_is_explained(repository: Path) -> None:
    explained = (repository / "profiles/README.md").read_text()
    for path in sorted((repository / "profiles").glob("*/config.yaml")):
        for option in yaml.safe_load(path.read_text()):
            assert f"`{option}" in explained, f"{path}: {option} is not explained in profiles/README.md"


def test_gpu_rules_go_to_the_gpu_partition_of_the_slurm_profile(repository: Path) -> None:
    needing = {name for name, text in rules(repository).items() if "gpu=1" in text}
    profile = yaml.safe_load((repository / "profiles/slurm/config.yaml").read_text())
    assert {name: set_["slurm_partition"] for name, set_ in profile["set-resources"].items()} == dict.fromkeys(
        needing, "gpu"
    )


def test_the_slurm_profile_resolves_literally(snakemake: Snakemake, paper_options: list[str]) -> None:
    run = snakemake("--profile", "slurm", "--dry-run", *paper_options, "all")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "mem_mb=1120" in run.stdout, "the memory a rule asks for is not capped by this machine's"
    assert "slurm_partition=gpu" in run.stdout


@pytest.mark.parametrize(("words", "limited"), [(["all"], True), (["--profile", "slurm", "all"], False)])
def test_the_limits_of_this_machine_are_not_the_cluster_s(
    repository: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], limited: bool
) -> None:
    """With `cores` said here, a job on the cluster would get no more threads than the login node has."""
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    monkeypatch.setattr(sys, "argv", ["snakemake", *words])
    profile = yte.process_yaml((repository / "profiles/default/config.yaml").read_text())
    assert ("cores" in profile) == ("resources" in profile) == limited
    assert profile["keep-going"]
