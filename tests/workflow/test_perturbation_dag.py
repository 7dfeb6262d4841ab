"""Perturbations in the DAG: rings are generated once a run of a generator of cells, and by no other model."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.conftest import Snakemake
from tests.workflow.test_dag import jobs


def test_rings_are_generated_once_a_run_and_judged(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str]
) -> None:
    path = paper_cohort / "config.yaml"
    params = {"perturbation": {"activated": ["LIGAND1"]}, "expected": {"TARGET1": "high"}}
    change = {
        "models": {"gest": {"model": "gest", "params": {"size": "tiny"}}, "pca": {"model": "pca"}},
        "seeds": [0, 1],
        "tasks": {
            "perturbation": {"protocols": ["rings"], "params": params},
            "unseen_generation": {"protocols": ["holes_300"]},
        },
    }
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    run = snakemake("--dry-run", *paper_options, "evaluation")
    assert run.returncode == 0, run.stdout + run.stderr
    found = jobs(run.stdout + run.stderr)
    assert (found["train"], found["perturb"], found["generate_cells"]) == (2, 2, 2)
    assert found["evaluate"] == 2 * (2 + 1)
