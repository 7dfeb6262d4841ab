"""`mistline plan` on a cohort that exists only on paper: jobs as Snakemake sees them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mistline.cli import app
from mistline.core.errors import ConfigError
from mistline.workflow.jobs import planned_jobs


def plan(*words: str | Path) -> dict[str, object]:
    done = CliRunner().invoke(app, ["plan", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_a_plan_of_a_cohort(paper_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paper_cohort)
    measured = paper_cohort / "before/results/benchmarks/cut_crops/s3.tsv"
    measured.parent.mkdir(parents=True)
    measured.write_text("s\tmax_rss\tcpu_time\n3600\t100\t7200\n")
    nodes = ["--nodes", "2", "--cores", "8", "--memory", "64000", "--whole", "--measured", "before"]
    found = plan("config.yaml", "--json", "--target", "dataset", *nodes)
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert {name: stage["jobs"] for name, stage in stages.items()} == {
        "check_bundle": 3, "project_image": 3, "read_cells": 3, "cut_crops": 3, "cut_tiles": 6, "make_splits": 1,
        "fit_metacells": 1, "assign_metacells": 3, "seal_dataset": 1,
    }  # fmt: skip
    assert (found["cells"], found["slides_of_assumed_size"]) == (1_800_000, 2)
    assert stages["cut_crops"]["cpu_hours"] == pytest.approx(
        [3.6, 3.6]
    )  # as measured on the one slide of a million cells
    assert stages["cut_crops"]["longest_hours"] == pytest.approx([1, 1])
    assert stages["cut_crops"]["memory_mb"] > 2000
    assert stages["read_cells"]["disk_gb"] > 0
    assert found["not_measured"] == []
    low, high = found["schedule"]["hours"]
    assert 1 < low < high
    assert found["schedule"]["critical_path"][-1] == "results/dataset/manifest.json"
    assert not (paper_cohort / "results").exists()


def test_a_config_snakemake_refuses_is_one_sentence(paper_cohort: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml: .*No rule to produce nowhere"):
        planned_jobs(paper_cohort / "config.yaml", "nowhere", paper_cohort)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(None, "no config file"), ("a: [", "while parsing"), ("- a", "holds no settings"), ("slidez: 1", "unknown key")],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        plan(tmp_path / "config.yaml")


def test_a_folder_that_is_not_there_is_not_made(paper_cohort: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        plan(paper_cohort / "config.yaml", "--directory", paper_cohort / "elsewhere")
    assert not (paper_cohort / "elsewhere").exists()
