from __future__ import annotations

import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import read_embedding
from mistline.tasks.crossmodal import PROTOCOLS, REFUSES, Params, evaluate
from mistline.tasks.crossmodal_rows import gather, rows_of
from mistline.tasks.decoders import DECODERS

PARAMS = Params(bootstrap=100)
WAYS = ("image_to_genes", "genes_to_image")
METRICS = {
    "image_to_genes": {"pearson_gene", "spearman_gene", "pearson_cell", "spearman_cell"},
    "genes_to_image": {"pearson_dimension", "spearman_dimension", "pearson_cell", "spearman_cell"},
}


def divide(item, split):
    ids = pd.read_parquet(item.cells)["cell_id"]
    write_parquet(item.splits, pd.DataFrame({"cell_id": ids, "split": split}))


def shuffle_genes(item, seed=1):
    table = anndata.read_h5ad(item.counts)
    order = np.random.default_rng(seed).permutation(table.n_obs)
    table.X = sparse.csr_matrix(table.X)[order]
    table.write_h5ad(item.counts)


def shuffle_image(cohort, item, seed=1):
    ids, rows = read_embedding(item.embedding)
    cohort.embed(item, list(ids), np.random.default_rng(seed).permutation(rows))


@pytest.fixture
def by_donor(cohort):
    for slide, split in (("a", "train"), ("b", "val"), ("c", "test")):
        divide(cohort.add(slide, f"donor-{slide}", n=200), split)
    return cohort


def test_it_refuses_models_that_read_genes():
    assert {"genes"} == REFUSES


@pytest.mark.parametrize("decoder", DECODERS)
def test_planted_genes_are_decoded_and_controls_are_not_flattered(by_donor, decoder):
    protocol = f"image_to_genes_{decoder}"
    scores = evaluate(by_donor.inputs(), PARAMS, protocol)
    assert (scores.unit, scores.n) == ("gene", 200)
    assert set(scores.model.metrics) == METRICS["image_to_genes"]
    assert scores.model.metrics["pearson_gene"].value > 0.6
    assert abs(scores.controls["shuffled"].metrics["pearson_gene"].value) < 0.1
    assert len(scores.model.per_unit["pearson_gene"]) == 12
    assert scores.model.per_unit["pearson_cell"] == {}
    controls = evaluate(by_donor.controls(), PARAMS, protocol)
    assert (controls.unit, controls.n) == (scores.unit, scores.n)
    assert set(controls.rows) == {"gene_mean", "coordinates"}
    mean = controls.controls["gene_mean"].metrics
    assert mean["pearson_gene"].value == mean["spearman_gene"].value == 0
    assert mean["pearson_cell"].value < scores.model.metrics["pearson_cell"].value
    assert abs(controls.controls["coordinates"].metrics["pearson_gene"].value) < 0.15
    assert set(controls.settings["left_out"]) == {"pca", "log_counts"}
    assert scores.settings["donors_disjoint"]


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_image_is_decoded_from_planted_genes(by_donor, decoder):
    protocol = f"genes_to_image_{decoder}"
    scores = evaluate(by_donor.inputs(), PARAMS, protocol)
    assert (scores.unit, scores.n) == ("dimension", 200)
    assert set(scores.model.metrics) == METRICS["genes_to_image"]
    assert scores.model.metrics["pearson_dimension"].value > 0.9
    assert scores.model.metrics["pearson_cell"].value > 0.9
    assert set(scores.controls) == {"shuffled", "embedding_mean", "coordinates"}
    for control in scores.controls.values():
        assert abs(control.metrics["pearson_dimension"].value) < 0.2
    controls = evaluate(by_donor.controls(), PARAMS, protocol)
    assert (controls.rows, controls.unit, controls.n) == ({}, scores.unit, scores.n)
    assert set(controls.settings["left_out"]) == {"coordinates", "embedding_mean"}


def test_scores_by_hand(by_donor, monkeypatch):
    """Two genes and three test cells, with a decoder that answers what is written here."""
    problem = gather(by_donor.inputs(), PARAMS, "image_to_genes")
    truth = np.array([[1.0, 2.0], [2.0, 0.0], [3.0, 1.0]], dtype=np.float32)
    answer = np.array([[1.0, 9.0], [3.0, 9.0], [2.0, 9.0]], dtype=np.float32)
    small = replace(
        problem,
        cells={split: cells.iloc[:3] for split, cells in problem.cells.items()},
        genes=dict.fromkeys(problem.genes, truth),
        log_counts=replace(problem.log_counts, genes=("g1", "g2")),
    )
    monkeypatch.setitem(DECODERS, "ridge", lambda pairs, seed: (answer, {}))
    row = rows_of(by_donor.inputs(), small, PARAMS, "ridge")["model"]
    assert row.per_unit["pearson_gene"] == pytest.approx({"g1": 0.5, "g2": 0.0})
    assert row.metrics["pearson_gene"].value == row.metrics["spearman_gene"].value == pytest.approx(0.25)
    assert row.metrics["pearson_cell"].value == pytest.approx((1 - 1 - 1) / 3)


def _told(inputs, protocol, monkeypatch):
    """Return row -> its predictions, caught where they are scored."""
    from mistline.tasks import crossmodal_rows

    caught = {}
    scored = crossmodal_rows._row

    def catch(predicted, truth, problem, params, about, name):
        caught[name] = (np.array(predicted), np.array(truth), about)
        return scored(predicted, truth, problem, params, about, name)

    monkeypatch.setattr(crossmodal_rows, "_row", catch)
    evaluate(inputs, PARAMS, protocol)
    monkeypatch.setattr(crossmodal_rows, "_row", scored)
    return caught


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_asked_for_is_never_read(by_donor, protocol, monkeypatch):
    """The other modality of the test cells is dealt anew: nothing that is predicted changes by a bit."""
    before = [_told(inputs, protocol, monkeypatch) for inputs in (by_donor.inputs(), by_donor.controls())]
    if protocol.startswith("image_to_genes"):
        shuffle_genes(by_donor.slides[2])
    else:
        shuffle_image(by_donor, by_donor.slides[2])
    after = [_told(inputs, protocol, monkeypatch) for inputs in (by_donor.inputs(), by_donor.controls())]
    assert len(before[0]) >= 2
    for one, two in zip(before, after, strict=True):
        assert set(one) == set(two)
        for name, (predicted, truth, about) in one.items():
            np.testing.assert_array_equal(predicted, two[name][0])
            assert about == two[name][2]
            assert not np.array_equal(truth, two[name][1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_five_donors_are_resampled_as_donors(cohort, protocol):
    divide(cohort.add("t", "t", n=100), "train")
    for i in range(5):
        divide(cohort.add(f"s{i}", f"d{i}", n=40), "test")
    scores = evaluate(cohort.inputs(), PARAMS, protocol)
    assert scores.unit == "donor"
    for metric, estimate in scores.model.metrics.items():
        values = scores.model.per_unit[metric]
        assert set(values) == {f"d{i}" for i in range(5)}
        assert estimate.value == pytest.approx(np.mean(list(values.values())))
        assert estimate.low <= estimate.value <= estimate.high


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_repeats_to_the_last_bit_and_is_json(by_donor, protocol):
    for inputs in (by_donor.inputs, by_donor.controls):
        one, two = (evaluate(inputs(), PARAMS, protocol).to_json() for _ in range(2))
        assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_slides_without_places_have_the_other_controls(by_donor):
    item = by_donor.slides[0]
    write_parquet(item.cells, pd.read_parquet(item.cells).assign(x_um=np.nan, y_um=np.nan))
    controls = evaluate(by_donor.controls(), PARAMS, "image_to_genes_ridge")
    assert set(controls.rows) == {"gene_mean"}
    assert controls.settings["left_out"]["coordinates"] == "not every slide has coordinates"


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_to_fit_or_to_test(by_donor, split):
    for item in by_donor.slides:
        divide(item, {"train": "test", "test": "train"}[split])
    with pytest.raises(InputError, match=rf"tasks\.crossmodal: no {split} cell"):
        evaluate(by_donor.inputs(), PARAMS, "image_to_genes_ridge")


def test_no_common_gene(by_donor, monkeypatch):
    inputs = by_donor.inputs()
    monkeypatch.setattr(type(inputs), "common_genes", lambda self: ())
    with pytest.raises(InputError, match="no gene is measured on every slide"):
        evaluate(inputs, PARAMS, "image_to_genes_ridge")


def test_nan_is_refused_with_the_cell(by_donor):
    item = by_donor.slides[2]
    table = pq.read_table(item.embedding)
    column = table.column("e0").to_numpy().copy()
    column[7] = np.nan
    pq.write_table(table.set_column(1, "e0", pa.array(column)), item.embedding)
    with pytest.raises(InputError, match="cell c-7 is not finite"):
        evaluate(by_donor.inputs(), PARAMS, "image_to_genes_ridge")
