"""What GeST learns of toy tissue whose truth is known: what cells express at places where none were measured.

Tables of the toy's cells, without images. Two donors are tested, whom nothing that is fitted has seen. Of each of their
slides a square of 240 um is hidden, which windows of 64 um fill in five rounds; and a few cells amid tumour, far from
macrophages, are made macrophages, which send what raises four genes of tumour cells within 60 um.
"""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy.spatial import cKDTree

from mistline.store.filled import Filled, read_filled
from mistline.store.perturbed import Perturbed, read_perturbed
from mistline.tasks.stats import bootstrap_mean
from mistline.xenium.toy.panel import N_MARKERS, TARGETS, marker
from tests.conftest import Snakemake
from tests.e2e.in_process import configure, run_here
from tests.truth.tissue_tables import write_tissues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TABLE = "results/evaluation/unseen_generation/holes_300"
VOCABULARY = {"n_metacells": 32, "n_components": 20, "levels": [10, 5, 3]}
GEST = {"size": "tiny", "window_um": 64, "steps": 400, **VOCABULARY}
FILLED = {"gest": {}, "profiles": {"preset": "no_quantisation"}}
WIDE = {"window_um": 150, "n_metacells": 40}  # half of it reaches as far as what macrophages send
HOLES = {"n": 1, "least_cells": 40, "scale": 0.8}
MACROPHAGE, TUMOUR = ([marker(name, number) for number in range(N_MARKERS)] for name in ("Macrophage", "Tumour"))
CHANGE = {"activated": ["LIGAND1", *MACROPHAGE], "inhibited": TUMOUR, "sigma": 0.7, "sweep": []}
CIRCLE = {"radius_um": 24.0, "ring_um": 90.0}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """Seven slides of six donors, two of them tested; trained, filled, changed and judged."""
    models = {name: {"model": "gest", "params": {**GEST, **more}} for name, more in {**FILLED, "wide": WIDE}.items()}
    folder = write_tissues(
        tmp_path_factory.mktemp("truth") / "tissues",
        n_slides=7,
        n_cells=1500,
        spacing_um=12.0,
        models=models,
        splits={"val_share": 0.14, "test_share": 0.28},
    )
    run_here(folder, snakemake, "results/dataset/manifest.json")
    filled = {"holes": HOLES, "bootstrap": 200, "mlp_cells": 200, "gp_cells": 400, "gp_fit_cells": 100}
    changed = {
        "perturbation": {**CHANGE, **CIRCLE, "at": [amid_tumour(folder, slide) for slide in slides_tested(folder)]},
        "expected": dict.fromkeys(TARGETS, "high"),
    }
    tasks = {
        "unseen_generation": {"protocols": ["holes_300"], "models": [*FILLED], "params": filled},
        "perturbation": {"protocols": ["rings"], "models": ["wide"], "params": changed},
    }
    configure(folder, tasks=tasks)
    rows = (f"{TABLE}/{name}.seed-0.json" for name in (*FILLED, "controls"))
    run_here(folder, snakemake, *rows, "results/evaluation/perturbation/rings/wide.seed-0.json")
    return folder


def slides_tested(cohort: Path) -> list[str]:
    """Return the slides with test cells."""
    slides = json.loads((cohort / "results/dataset/splits.json").read_text())["slides"]
    found = [slide for slide, about in slides.items() if about["counts"].get("test")]
    assert len(found) == 2
    return found


def amid_tumour(cohort: Path, slide: str) -> tuple[str, float, float]:
    """Return the place of a slide around which there are fewest macrophages, and many tumour cells."""
    table = anndata.read_h5ad(cohort / f"{slide}.h5ad")
    xy, kind = table.obsm["spatial"], table.obs["cell_type"].to_numpy(dtype=str)
    inside = np.flatnonzero(((xy > xy.min(axis=0) + 90) & (xy < xy.max(axis=0) - 90)).all(axis=1))
    near = cKDTree(xy).query_ball_point(xy[inside], 100)
    worth = [(kind[rows] == "Tumour").mean() - 3 * (kind[rows] == "Macrophage").mean() for rows in near]
    x, y = xy[inside[int(np.argmax(worth))]]
    return slide, float(x), float(y)


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
    gest, profiles = (read_filled(cohort / f"results/filled/{name}/seed-0/holes_300.parquet") for name in FILLED)
    assert (gest.cell_id == profiles.cell_id).all()
    assert (gest.round == profiles.round).all()
    late = gest.round >= 3
    assert late.sum() > 100
    gained = squared_errors(cohort, profiles)[late] - squared_errors(cohort, gest)[late]
    assert low({str(cell): float(value) for cell, value in enumerate(gained)}) > 0


def targets_of_receivers(found: Perturbed, variant: str) -> np.ndarray:
    """Return [n], of each cell of the rings the targets' level, were it a tumour cell: of the meta-cells that are."""
    place = {gene: column for column, gene in enumerate(found.genes)}
    targets, receptor = (found.expression[:, [place[gene] for gene in genes]] for genes in (TARGETS, ["RECEPT1"]))
    receives = receptor[:, 0] > receptor.mean()
    share = found.told[found.variant == variant][:, receives]
    return share @ targets[receives].mean(axis=1) / share.sum(axis=1)


def test_what_is_sent_moves_the_targets_of_receivers_nearby_and_no_further(cohort):
    """More macrophages also mean fewer tumour cells: targets are looked at in those that can receive."""
    found = read_perturbed(cohort / "results/perturbed/wide/seed-0.parquet")
    away = found.distance_um[found.variant == "control"] - CIRCLE["radius_um"]
    before = targets_of_receivers(found, "control")
    moved = {name: targets_of_receivers(found, name) - before for name in ("perturbed", "random_genes", "elsewhere")}
    near = away < 40
    gained = moved["perturbed"][near]
    assert low({str(cell): float(value) for cell, value in enumerate(gained)}) > 0
    assert gained.mean() > 3 * np.abs(moved["perturbed"][away > 60]).mean()
    more = gained - moved["random_genes"][near]
    assert low({str(cell): float(value) for cell, value in enumerate(more)}) > 0
    assert np.abs(moved["elsewhere"]).max() < 1e-3
