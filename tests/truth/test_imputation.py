"""What methods that impute genes say of a generated slide, of which every expected count is known.

The genes of three folds were closed to the methods. Most genes follow from the types of cells, which lie smoothly in
space; graded ones also follow a gradient that no single cell tells of, so nothing that reads the reference can know it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mistline.cli import app
from mistline.core.errors import InputError
from mistline.mist.pair import Pair, open_pair, read_reference
from mistline.models.contract import Context
from mistline.scrna.toy import REFERENCE_FILE, make_pair, write_pair
from mistline.scrna.view import Imputed, TrainView
from mistline.store.imputed import read_imputed, write_imputed
from mistline.tasks.stats import bootstrap_mean
from mistline.train.device import cpu_threads
from tests.conftest import Snakemake
from tests.e2e.faults.runner import Job, planned
from tests.e2e.in_process import run_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TABLE = "results/evaluation/imputation/gene_folds"
IMPUTED = "results/imputed/gene_folds/spadit.seed-0.parquet"
ROW, KINDS = f"{TABLE}/spadit.seed-0", ("json", "parquet")
SHORT = {"size": "tiny", "steps": 60, "sampling_steps": 10, "samples": 8}
MODELS = {"spadit": {"model": "spadit", "params": SHORT}, "spage": {"model": "spage"}}
READS_REFERENCE = ["spadit", "spage", "correlated_genes", "knn_transfer"]
LACKING = 0.3  # share of the measured values other than zero that the pasted truth lacks


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> tuple[Path, list[Job]]:
    """The pair after two models and the controls were judged, and the jobs that did it."""
    folder = tmp_path_factory.mktemp("truth") / "pair"
    rows = write_pair(folder)
    config = {
        "slides": rows,
        "models": MODELS,
        "tasks": {"imputation": {"protocols": ["gene_folds"], "params": {"n_folds": 3}}},
        "imputation": {"reference": REFERENCE_FILE, "n_genes": 10, "models": ["spadit"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    targets = [f"{TABLE}/{name}.seed-0.json" for name in (*MODELS, "controls")]
    targets.append("results/imputed/slides/spadit/seed-0/pair.parquet")
    jobs = planned(folder, snakemake, *targets)
    run_here(folder, snakemake, *targets)
    return folder, jobs


@pytest.fixture(scope="module")
def rows(cohort: tuple[Path, list[Job]]) -> Mapping[str, Mapping[str, float]]:
    """Row -> gene -> correlation."""
    found = {}
    for name in (*MODELS, "controls"):
        scores = json.loads((cohort[0] / f"{TABLE}/{name}.seed-0.json").read_text())
        assert scores["unit"] == "gene"
        if name in MODELS:
            found[name] = scores["per_unit"]["pcc"]
        found |= {row: values["pcc"] for row, values in scores["controls_per_unit"].items()}
    return found


def low(values: Mapping[str, float]) -> float:
    """Return the lower bound of the mean of values by gene."""
    return bootstrap_mean(dict(values), 2000, 0.95, np.random.default_rng(0)).low


@pytest.mark.parametrize("control", ["permuted", "total_map", "zero"])
def test_a_gene_is_better_known_than_by_controls_that_do_not_know_it(rows, control):
    gained = {gene: value - rows[control][gene] for gene, value in rows["spadit"].items()}
    assert len(gained) == 150
    assert low(gained) > 0


@pytest.mark.parametrize("other", ["correlated_genes", "knn_transfer", "spage"])
def test_and_better_than_by_what_borrows_from_neighbours(rows, other):
    assert low({gene: value - rows[other][gene] for gene, value in rows["spadit"].items()}) > 0


@pytest.mark.parametrize("row", MODELS)
def test_nothing_knows_more_than_what_is_expected(cohort, rows, row):
    """Counts are drawn around what is expected: more than that can only be told by who has seen them."""
    told, pair = make_pair(), open_toy(cohort[0], None)
    spots = [int(name.removeprefix("spot")) for name in pair.cell_id.tolist()]
    share = told.rates[spots] / told.rates[spots, : told.n_measured].sum(axis=1, keepdims=True)
    column = {gene: place for place, gene in enumerate(told.genes)}
    best = {}
    for fold in pair.folds:
        expected = np.log1p(1e4 * share[:, [column[gene] for gene in pair.tested(fold)]])
        pairs = zip(pair.tested(fold), expected.T, pair.truth(fold).T, strict=True)
        best |= {gene: float(np.corrcoef(own, measured)[0, 1]) for gene, own, measured in pairs}
    assert low({gene: value - rows[row][gene] for gene, value in best.items()}) > 0


@pytest.mark.parametrize("row", READS_REFERENCE)
def test_what_no_single_cell_tells_is_known_worse_by_all_that_read_them(rows, row):
    graded = set(make_pair().graded)
    types_alone = {gene: value for gene, value in rows[row].items() if gene not in graded}
    assert len(types_alone) == 130
    lost = {gene: np.mean(list(types_alone.values())) - rows[row][gene] for gene in graded}
    assert low(lost) > 0


def test_of_graded_genes_their_neighbours_still_tell_something(rows):
    assert low({gene: rows["correlated_genes"][gene] for gene in make_pair().graded}) > 0


def test_it_is_less_sure_where_it_is_more_wrong(cohort):
    scores = json.loads((cohort[0] / f"{ROW}.json").read_text())
    assert scores["metrics"]["sd_r"]["low"] > 0


def open_toy(folder: Path, at_most: int | None) -> Pair:
    """Return the slide and its reference as methods are given them.

    Args:
        folder: the cohort's.
        at_most: cells that are drawn; None for all.
    """
    genes = pd.read_parquet(folder / "results/imputed/gene_folds/genes.parquet")
    cells, counts = (folder / f"results/slides/pair/{name}" for name in ("cells.parquet", "counts.h5ad"))
    return open_pair("pair", cells, counts, read_reference(folder / "results/reference/counts.h5ad"), genes, at_most)


def imputed(name: str, view: TrainView, resume: Path) -> Imputed:
    """Return what a model, fitted shortly, says of a view."""
    params, model = (importlib.import_module(f"mistline.models.{name}.{module}") for module in ("params", "model"))
    settings = params.Params.model_validate({**SHORT, "steps": 8} if name == "spadit" else {})
    context = Context(seed=1, device="cpu", threads=1, resume=resume)
    with cpu_threads(1):
        fitted = model.Model.create(settings, view, context)
        list(fitted.fit(view, context))
        found: Imputed = fitted.impute(view, context)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_tested_genes_may_be_anything_and_nothing_changes(cohort, tmp_path, model):
    """Every value of a tested gene is replaced by NaN before the method is given its fold."""
    pair = open_toy(cohort[0], 300)
    closed = dataclasses.replace(pair, guarded=pair.guarded.close(pair.tested(0)).with_canary())
    assert np.isnan(closed.guarded.reveal(pair.tested(0)).toarray()).all()
    plain, spoilt = (imputed(model, own.view(0), tmp_path / name) for name, own in (("a", pair), ("b", closed)))
    assert np.isfinite(plain.mean).all()
    assert plain.mean.tobytes() == spoilt.mean.tobytes()
    assert (plain.sd is None) == (model == "spage")
    assert plain.sd is None or plain.sd.tobytes() == spoilt.sd.tobytes()


def test_the_truth_pasted_into_a_prediction_is_refused(cohort, tmp_path):
    """Measured values, of which some other than zero are set to zero."""
    folder, jobs = cohort
    own = read_imputed(folder / IMPUTED)
    mean, pair = own.mean.copy(), open_toy(folder, None)
    assert own.cell_id.tolist() == pair.cell_id.tolist()
    column = {gene: place for place, gene in enumerate(own.genes)}
    draw = np.random.default_rng(0)
    for fold in pair.folds:
        truth = pair.truth(fold)
        truth[draw.random(truth.shape) < LACKING] = 0
        mean[:, [column[gene] for gene in pair.tested(fold)]] = truth
    write_imputed(tmp_path / "pasted.parquet", dataclasses.replace(own, mean=mean))
    words = next(job.words for job in jobs if f"{ROW}.json" in job.outputs)
    ours = {IMPUTED: tmp_path / "pasted.parquet", **{f"{ROW}.{kind}": tmp_path / f"row.{kind}" for kind in KINDS}}
    with contextlib.chdir(folder), cpu_threads(1), pytest.raises(InputError, match="has read tested genes"):
        app([str(ours.get(word, word)) for word in words], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["pasted.parquet"]


def test_genes_that_the_slide_does_not_measure_follow_what_is_expected_of_them(cohort):
    pair = make_pair()
    found = read_imputed(cohort[0] / "results/imputed/slides/spadit/seed-0/pair.parquet")
    assert sorted(found.genes) == sorted(pair.unmeasured)
    spots = [int(name.removeprefix("spot")) for name in found.cell_id.tolist()]
    share = pair.rates / pair.rates[:, : pair.n_measured].sum(axis=1, keepdims=True)
    column = {gene: place for place, gene in enumerate(pair.genes)}
    known = {
        gene: float(np.corrcoef(found.mean[:, place], np.log1p(1e4 * share[spots, column[gene]]))[0, 1])
        for place, gene in enumerate(found.genes)
    }
    assert low(known) > 0.5
