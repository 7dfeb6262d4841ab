"""What GeST learns of toy tissue whose truth is known: what cells express at places where none were measured.

Tables of the toy's cells, without images. Two donors are tested, whom nothing that is fitted has seen; of each slide a
square of 240 um is hidden, which windows of 64 um fill in five rounds.
"""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest

from mistline.store.filled import Filled, read_filled
from mistline.tasks.stats import bootstrap_mean
from tests.conftest import Snakemake
from tests.e2e.in_process import run_here
from tests.truth.tissue_tables import write_tissues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TABLE = "results/evaluation/unseen_generation/holes_300"
VOCABULARY = {"n_metacells": 32, "n_components": 20, "levels": [10, 5, 3]}
GEST = {"size": "tiny", "window_um": 64, "steps": 400, **VOCABULARY}
MODELS = {"gest": {}, "profiles": {"preset": "no_quantisation"}}
HOLES = {"n": 1, "least_cells": 40, "scale": 0.8}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """Seven slides of six donors, two of them tested; trained, filled and judged."""
    models = {name: {"model": "gest", "params": {**GEST, **more}} for name, more in MODELS.items()}
    params = {"holes": HOLES, "bootstrap": 200, "mlp_cells": 200, "gp_cells": 400, "gp_fit_cells": 100}
    folder = write_tissues(
        tmp_path_factory.mktemp("truth") / "tissues",
        n_slides=7,
        n_cells=1500,
        spacing_um=12.0,
        models=models,
        splits={"val_share": 0.14, "test_share": 0.28},
        tasks={"unseen_generation": {"protocols": ["holes_300"], "params": params}},
    )
    run_here(folder, snakemake, *(f"{TABLE}/{name}.seed-0.json" for name in (*MODELS, "controls")))
    return folder


def low(differences: dict[str, float]) -> float:
    """Return the lower bound of the mean of paired differences."""
    return bootstrap_mean(differences, 2000, 0.95, np.random.default_rng(0)).low


def by_gene(cohort: Path, name: str) -> dict[str, dict[str, float]]:
    """Return row -> gene -> correlation."""
    scores = json.loads((cohort / f"{TABLE}/{name}.seed-0.json").read_text())
    assert scores["unit"] == "gene"
    return {name: scores["per_unit"].get("pcc", {})} | {
        row: found["pcc"] for row, found in scores["controls_per_unit"].items()
    }


@pytest.mark.parametrize("control", ["section_mean", "nearest_cell", "knn_mean"])
def test_weighted_answers_beat_what_the_nearest_cells_say(cohort, control):
    own, other = by_gene(cohort, "gest")["gest"], by_gene(cohort, "controls")[control]
    assert low({gene: value - other[gene] for gene, value in own.items()}) > 0


def test_dealt_to_other_places_they_say_nothing(cohort):
    dealt = by_gene(cohort, "gest")["shuffled"]
    assert abs(np.mean(list(dealt.values()))) < 0.02


def squared_errors(cohort: Path, filled: Filled) -> np.ndarray:
    """Return [n], of each filled cell the mean over genes, log-normalised to 100 counts."""
    found = np.empty(len(filled.cell_id))
    for slide in np.unique(filled.slide):
        own = filled.slide == slide
        table = anndata.read_h5ad(cohort / f"{slide}.h5ad")[filled.cell_id[own], list(filled.genes)]
        counts = table.X.toarray()
        truth = np.log1p(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
        found[own] = np.square(truth - filled.told[own] @ filled.expression).mean(axis=1)
    return found


def test_after_three_rounds_meta_cells_are_nearer_to_the_truth_than_profiles(cohort):
    """What is generated is read again: errors of profiles add up, a meta-cell is one that there is."""
    gest, profiles = (read_filled(cohort / f"results/filled/{name}/seed-0/holes_300.parquet") for name in MODELS)
    assert (gest.cell_id == profiles.cell_id).all()
    assert (gest.round == profiles.round).all()
    late = gest.round >= 3
    assert late.sum() > 100
    gained = squared_errors(cohort, profiles)[late] - squared_errors(cohort, gest)[late]
    assert low({str(cell): float(value) for cell, value in enumerate(gained)}) > 0
