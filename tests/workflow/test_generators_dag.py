"""Generators of images in the DAG: what they share is made once."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.conftest import Snakemake
from tests.workflow.test_dag import jobs

PARTS = {"condition": "spatia", "autoencoder": "vae"}
STATES = {"label": "cell_type", "transitions": [["a", "b"]]}


def test_generators_share_latents_and_are_judged_edited_and_timed(
    snakemake: Snakemake, paper_cohort: Path, paper_options: list[str]
) -> None:
    path = paper_cohort / "config.yaml"
    models = {
        "spatia": {"model": "spatia", "params": {"size": "tiny"}},
        "vae": {"model": "vae"},
        "cells": {"model": "diffusion", "params": PARTS},
        "turns": {"model": "flow", "params": PARTS | STATES},
    }
    change = {
        "models": models,
        "seeds": [0, 1],
        "tasks": {"generation": {"protocols": ["gene2img", "context2img"]}},
        "generation": {"edits": [{"genes": ["EPCAM"]}], "sweep": {}},
    }
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    run = snakemake("--dry-run", *paper_options, "report")
    assert run.returncode == 0, run.stdout + run.stderr
    found = jobs(run.stdout + run.stderr)
    n_slides, n_seeds, n_protocols = 3, 2, 2
    assert found["encode_cells"] == found["pair_cells"] == n_slides * n_seeds
    assert (found["train"], found["train_generator"]) == (2 * n_seeds, 2 * n_seeds)
    assert found["generate"] == 2 * n_seeds * n_protocols
    assert found["evaluate"] == found["generate"] + n_protocols
    assert (found["edit"], found["sweep"]) == (1, 1)  # of the first seed, and of no flow
