"""Published methods on toy tables: beside ours where they can be installed, "not run" where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mistline.spots.toy import write_tables
from mistline.store.absent import read_absent
from tests.conftest import Snakemake
from tests.e2e.in_process import planned_again, run_here

MODELS = {
    "pca": {"model": "pca", "params": {"n_components": 10, "max_fit_cells": 400}},
    "celltypist": {"model": "peer", "params": {"method": "celltypist"}},
    "banksy": {"model": "peer", "params": {"method": "banksy"}},
}
METHODS = ("banksy", "celltypist")


def write_cohort(folder: Path, *protocols: str) -> Path:
    entry = {"tissue": "brain", "disease": "healthy", "um_per_unit": 1.0}
    rows = write_tables(folder, side=16, n_genes=200)[:2]
    params = {"label": "layer", "bootstrap": 100}
    config = {
        "slides": [{**entry, "slide": row["slide"], "table": row["table"], "donor": row["donor"]} for row in rows],
        "models": MODELS,
        "tasks": {"domains": {"protocols": list(protocols), "params": params}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def scores(folder: Path, protocol: str, model: str) -> dict:
    path = folder / f"results/evaluation/domains/{protocol}/{model}.seed-0.json"
    return json.loads(path.read_text())


def test_without_a_registry_the_line_goes_on(
    tmp_path: Path, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    folder = write_cohort(tmp_path / "kohörte", "random_spot")
    run_here(folder, snakemake, "evaluation")
    for method in METHODS:
        found = json.loads((folder / f"results/peers/{method}.json").read_text())
        assert found["reason"].startswith("cannot be installed: ")
        left = {path.name for path in (folder / f"results/peers/{method}").iterdir()}
        assert not left
    reason = scores(folder, "random_spot", "celltypist")["not_run"]
    assert reason.startswith("cannot be installed: ")
    compared = json.loads((folder / "results/evaluation/domains/random_spot.json").read_text())
    assert set(compared["not_run"]) == {"banksy", "celltypist"}
    assert scores(folder, "random_spot", "pca")["metrics"]["accuracy"]["value"] > 0.4
    assert "Nothing to be done" in planned_again(folder, snakemake, "evaluation")


@pytest.mark.slow
def test_installed_methods_are_judged_on_the_same_cells(tmp_path: Path, snakemake: Snakemake) -> None:
    folder = write_cohort(tmp_path / "kohörte", "random_spot", "unsupervised")
    made = [f"results/peers/{method}.json" for method in METHODS]
    run_here(folder, snakemake, *made)
    reasons = [reason for path in made if (reason := json.loads((folder / path).read_text())["reason"])]
    if reasons:
        pytest.skip(reasons[0])
    run_here(folder, snakemake, "evaluation")
    predicted = folder / "results/predictions/domains/random_spot/celltypist.seed-0.parquet"
    assert read_absent(predicted) is None
    ours, theirs = (scores(folder, "random_spot", name) for name in ("pca", "celltypist"))
    assert (ours["n"], ours["dataset_version"]) == (theirs["n"], theirs["dataset_version"])
    controls = scores(folder, "random_spot", "controls")["controls"]
    assert theirs["metrics"]["accuracy"]["value"] > controls["majority"]["accuracy"]["value"] + 0.2
    assert scores(folder, "unsupervised", "banksy")["metrics"]["ari"]["value"] > 0.1
