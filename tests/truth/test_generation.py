"""What a generator of images learns of a toy tissue whose truth is known: genes that shape the nucleus.

The tested donors are unknown to all that is fitted. Cells of each are drawn again with one gene at four levels, from
the same noise and by inversion of their own image; the control is drawn under the conditions of other cells and levels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mistline.store.pictures import read_pictures
from mistline.tasks.picture_features import morphology
from mistline.tasks.stats import bootstrap_mean
from mistline.xenium.toy.cohort import plan_cohort, write_cohort
from tests.conftest import Snakemake
from tests.e2e.in_process import configure, run_here, slides_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

N_SLIDES, N_CELLS, N_EDITED = 8, 300, 10
LEVELS = ("0", "x0.5", "x1", "x3")
DRIVEN = {"NUCSIZE": "area", "NUCBRI": "brightness"}
GENERATOR = {"condition": "spatia", "autoencoder": "vae", "size": "tiny", "modes": ["gene2img"]}
STATES = {"label": "cell_type", "niche": "domain", "transitions": [["Fibroblast", "Tumour"]]}
MODELS = {
    "spatia": {"model": "spatia", "params": {"size": "tiny"}},
    "vae": {"model": "vae", "params": {"size": "tiny", "image_size": 24, "steps": 200}},
    "cells": {"model": "diffusion", "params": {**GENERATOR, "steps": 300}},
    "turns": {"model": "flow", "params": {**GENERATOR, **STATES, "steps": 120}},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """Eight slides of seven donors, two of them tested; generators are trained and judged, and one draws edits."""
    folder = tmp_path_factory.mktemp("truth") / "cohort"
    slides = plan_cohort(N_SLIDES, N_CELLS, 0, ["1.3"], n_planes=1, transcripts=False)
    write_cohort(folder, slides, threads=1)
    common = {"splits": {"val_share": 0.1, "test_share": 0.28}, "models": MODELS, "imputation": {}}
    task = {"protocols": ["gene2img"], "params": {"size_px": 24, "n_cells": 100, "n_train": 200}}
    configure(folder, **common, tasks={"generation": task})
    run_here(folder, snakemake, "results/dataset/manifest.json")
    edits = [
        {"genes": [gene], "slide": slide, "n_cells": N_EDITED, "levels": list(LEVELS)}
        for slide in slides_of(folder, "test")
        for gene in DRIVEN
    ]
    configure(folder, generation={"sampling": {"steps": 10}, "edits": edits})
    table = "results/evaluation/generation/gene2img"
    run_here(
        folder, snakemake, "results/edits/cells/seed-0.safetensors",
        *(f"{table}/{model}.seed-0.json" for model in ("cells", "turns", "controls")),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def edits(cohort: Path) -> dict[str, np.ndarray]:
    """Return (gene, way) -> [cells, levels, features] morphology in standard deviations of the original cells."""
    found = read_pictures(cohort / "results/edits/cells/seed-0.safetensors")
    rows = found.about["rows"]
    shown = {way: morphology(found.images[way]) for way in ("original", "edited", "inverted", "dealt")}
    spread = shown["original"].std()
    assert set(DRIVEN.values()) <= set(spread.index)
    result = {}
    for gene in DRIVEN:
        own = np.array([row["genes"] == [gene] for row in rows])
        cells = sorted({(row["slide"], row["cell_id"]) for row, here in zip(rows, own, strict=True) if here})
        assert len(cells) >= N_EDITED
        assert len({slide for slide, _ in cells}) == 2
        place = {(row["slide"], row["cell_id"], row["level"]): number for number, row in enumerate(rows) if own[number]}
        order = np.array([[place[(*cell, level)] for level in LEVELS] for cell in cells])
        for way in ("edited", "inverted", "dealt"):
            values = (shown[way][[*DRIVEN.values()]] / spread[[*DRIVEN.values()]]).to_numpy()
            result[gene, way] = values[order]  # [cells, levels, features]
    return result


def trend(values: np.ndarray) -> np.ndarray:
    """Return [cells] rank correlation of a feature with the level, of each cell."""
    ranks = np.argsort(np.argsort(values, axis=1), axis=1)
    levels = np.arange(values.shape[1])
    return np.array([np.corrcoef(own, levels)[0, 1] for own in ranks])


def bounds(values: np.ndarray) -> tuple[float, float]:
    found = bootstrap_mean({str(i): float(v) for i, v in enumerate(values)}, 2000, 0.95, np.random.default_rng(0))
    return found.low, found.high


@pytest.mark.parametrize("gene", DRIVEN)
@pytest.mark.parametrize("way", ["edited", "inverted"])
def test_a_gene_moves_the_feature_it_drives_and_no_other_as_much(edits, gene, way):
    features = list(DRIVEN.values())
    driven = features.index(DRIVEN[gene])
    values = edits[gene, way]
    mean = values.mean(axis=0)  # [levels, features]
    assert (np.diff(mean[:, driven]) > 0).all(), mean
    assert bounds(trend(values[..., driven]))[0] > 0.5
    moved = mean[-1] - mean[0]
    assert moved[driven] > 1.0, moved
    assert np.abs(np.delete(moved, driven)).max() < 0.5 * moved[driven], moved


@pytest.mark.parametrize("gene", DRIVEN)
def test_under_dealt_conditions_it_does_not(edits, gene):
    values = edits[gene, "dealt"][..., list(DRIVEN.values()).index(DRIVEN[gene])]
    low, high = bounds(trend(values))
    assert low < 0.2, (low, high)
    assert high < 0.7, (low, high)


def test_images_follow_the_genes_of_unseen_cells_and_dealt_ones_do_not(cohort):
    scores = json.loads((cohort / "results/evaluation/generation/gene2img/cells.seed-0.json").read_text())
    own, dealt = scores["metrics"], scores["controls"]["shuffled"]
    for feature in DRIVEN.values():
        assert own[f"{feature}_r"]["low"] > dealt[f"{feature}_r"]["high"], feature
    assert own["psnr"]["value"] > dealt["psnr"]["value"]
    assert own["readback_pearson"]["low"] > dealt["readback_pearson"]["high"]


def test_a_flow_makes_of_a_cell_one_of_the_other_state(cohort):
    """Nuclei of fibroblasts are small and long, those of the tumour large."""
    scores = json.loads((cohort / "results/evaluation/generation/gene2img/turns.seed-0.json").read_text())
    drawn, start = scores["metrics"], scores["controls"]["start_cell"]
    assert drawn["area_distance"]["value"] < 0.7 * start["area_distance"]["value"]
    assert drawn["brightness_r"]["low"] > scores["controls"]["shuffled"]["brightness_r"]["value"]
