"""From tables to the report: two h5ad files and a Visium folder, of three donors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Snakemake
from tests.e2e.conftest import options
from tests.unit.spots.written import table, write_h5ad, write_visium


@pytest.fixture(scope="module")
def run_of_tables(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "kohörte"
    entry = {"tissue": "brain", "disease": "healthy"}
    slides = []
    for seed, name in enumerate("ab"):
        write_h5ad(folder / f"{name}.h5ad", table(150, seed))
        slides.append({"slide": name, "table": f"{name}.h5ad", "um_per_unit": 10, "donor": f"d{seed}", **entry})
    visium = write_visium(folder / "vi sium")
    rows = (visium / "spatial/tissue_positions.csv").read_text().splitlines()[1:]
    layers = [f"{row.split(',')[0]},L{int(row.split(',')[2]) * 3 // 16}" for row in rows]
    (folder / "labels.csv").write_text("\n".join(["cell_id,layer", *layers[:200]]) + "\n")
    slides.append({"slide": "v", "table": "vi sium", "labels": "labels.csv", "donor": "d2", **entry})
    params = {"label": "layer", "bootstrap": 100, "resolution": 0.3}
    config = {
        "slides": slides,
        "models": {"pca": {"model": "pca", "params": {"n_components": 4, "max_fit_cells": 100}}},
        "tasks": {"clustering": {"protocols": ["fixed_resolution"], "params": params}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(*options(folder), "all")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_the_model_is_judged_beside_the_controls(run_of_tables: Path) -> None:
    results = run_of_tables / "results"
    manifest = json.loads((results / "dataset/manifest.json").read_text())
    assert (manifest["kind"], len(manifest["slides"]), manifest["splits"]["scheme"]) == ("tables", 3, "donor")
    folder = results / "evaluation/clustering/fixed_resolution"
    scores = json.loads((folder / "pca.seed-0.json").read_text())
    assert scores["dataset_version"] == manifest["version"]
    assert scores["metrics"]["ari"]["value"] > 0.8  # every layer has genes of its own
    controls = json.loads((folder / "controls.seed-0.json").read_text())["controls"]
    assert {"coordinates", "log_counts", "pca", "one_cluster"} <= set(controls)


def test_the_report_leaves_out_what_needs_images(run_of_tables: Path) -> None:
    page = (run_of_tables / "results/report/index.html").read_text()
    assert 'id="crops"' not in page
    assert 'id="metacells"' not in page
    assert "given as tables" in page
    figures = {path.name for path in (run_of_tables / "results/report/figures").glob("*.png")}
    assert {"v.splits.png", "v.label_layer.png", "v.distributions.png"} <= figures


def test_a_second_dry_run_has_nothing_to_do(run_of_tables: Path, snakemake: Snakemake) -> None:
    run = snakemake("--dry-run", *options(run_of_tables), "all")
    assert "Nothing to be done" in run.stdout + run.stderr
