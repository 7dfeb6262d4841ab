"""From tables with an image to the judgement of a frozen encoder: three slides whose colour tells their layer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import Snakemake
from tests.e2e.in_process import planned_again, run_here
from tests.unit.spots.written import table, write_h5ad
from tests.unit.stages.patches import SIDE_PX, paint, write_image

SLIDES = {"a": ".png", "b": ".jpg", "c": ".tif"}


@pytest.fixture(scope="module")
def run_of_patches(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    folder = tmp_path_factory.mktemp("patches") / "bïlder"
    slides = []
    for seed, (name, suffix) in enumerate(SLIDES.items()):
        data = table(120, seed)
        data.obsm["spatial"] *= SIDE_PX / 100
        write_h5ad(folder / f"{name}.h5ad", data)
        write_image(folder / f"im age {name}{suffix}", paint(seed))
        entry = {"slide": name, "table": f"{name}.h5ad", "image": f"im age {name}{suffix}", "um_per_unit": 1.0}
        slides.append(entry | {"donor": f"d{seed}", "tissue": "brain", "disease": "healthy"})
    models = {
        "encoder": {"model": "encoder", "params": {"name": "test_resnet", "image_size": 32}},
        "pca": {"model": "pca", "params": {"n_components": 4, "max_fit_cells": 100}},
    }
    config = {
        "slides": slides,
        "patches": {"side_um": 16, "size_px": 32},
        "models": models,
        "tasks": {"expression": {"protocols": ["leave_slide_out"], "params": {"n_genes": 6, "bootstrap": 100}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run_here(folder, snakemake, "all")
    return folder


def test_the_image_tells_the_genes(run_of_patches: Path) -> None:
    results = run_of_patches / "results"
    manifest = json.loads((results / "dataset/manifest.json").read_text())
    assert manifest["channels"] == ["red", "green", "blue"]
    folder = results / "evaluation/expression/leave_slide_out"
    assert not list(folder.glob("pca*"))  # it reads the genes
    scores = json.loads((folder / "encoder.seed-0.json").read_text())
    assert (scores["unit"], scores["n"], scores["dataset_version"]) == ("gene", 360, manifest["version"])
    assert scores["metrics"]["ridge_pcc"]["value"] > 0.4  # every layer has a colour, and genes of its own
    assert abs(scores["controls"]["shuffled"]["ridge_pcc"]["value"]) < 0.2
    controls = json.loads((folder / "controls.seed-0.json").read_text())
    assert set(controls["controls"]) == {"gene_mean", "colour"}
    assert controls["controls"]["colour"]["xgboost_pcc"]["value"] > 0.4
    assert "random initialisation" in (results / "models/encoder/seed-0/card.md").read_text()


def test_every_cell_has_its_patch_and_its_embedding(run_of_patches: Path) -> None:
    for name in SLIDES:
        slide = run_of_patches / "results/slides" / name
        cells = pd.read_parquet(slide / "cells.parquet")["cell_id"].tolist()
        assert pd.read_parquet(slide / "shards/cell.parquet")["cell_id"].tolist() == cells
        embedded = run_of_patches / f"results/embeddings/encoder/seed-0/{name}.parquet"
        assert pd.read_parquet(embedded)["cell_id"].tolist() == cells


def test_a_second_dry_run_has_nothing_to_do(run_of_patches: Path, snakemake: Snakemake) -> None:
    assert "Nothing to be done" in planned_again(run_of_patches, snakemake, "all")
