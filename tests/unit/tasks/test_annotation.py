from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import Origin
from mistline.store.predictions import write_predictions
from mistline.tasks import annotation, annotation_rows
from mistline.tasks.annotation import PROTOCOLS, Params, evaluate
from mistline.tasks.files import FileInputs, Subject
from tests.unit.tasks.divided import long

PARAMS = Params(label="cell_type", bootstrap=100, repeats=2, hidden=32, epochs=100)
QUERY = PARAMS.model_copy(update={"query": ("b",)})


@pytest.fixture
def two_slides(cohort):
    cohort.add("a", "d1")
    cohort.add("b", "d2")
    return cohort


def folds(cells, params, protocol):
    return long(annotation.folds(cells, params, protocol))


def divided(cohort, protocol, params=PARAMS):
    path = cohort.root / f"{protocol}.parquet"
    write_parquet(path, annotation.folds(cohort.controls().cells(), params, protocol))
    return path


def judged(cohort, protocol, params=PARAMS, model="good", path=None, predictions=None):
    path = path or divided(cohort, protocol, params)
    is_model = model == "good" and predictions is None
    slides = cohort.slides if is_model else [replace(item, embedding=None) for item in cohort.slides]
    subject = Subject(None if model == "controls" else model, 0, "v1", predictions, path)
    return evaluate(FileInputs(slides, subject), params, protocol)


def relabel(item, change):
    table = pd.read_parquet(item.cells)
    table["label_cell_type"] = change(table["label_cell_type"].to_numpy(dtype=object, copy=True))
    write_parquet(item.cells, table)


def test_random_split_is_stratified_and_repeats_differ(two_slides):
    cells = two_slides.controls().cells()
    found = folds(cells, PARAMS, "random_split").merge(cells, on=["slide", "cell_id"])
    known = found[found["label_cell_type"].notna()]
    assert set(known["part"]) == {"train", "val", "test"}
    assert set(found.loc[found["label_cell_type"].isna(), "part"]) == {"unlabelled"}
    for _, own in known.groupby(["fold", "label_cell_type"]):
        assert abs((own["part"] == "test").sum() - 0.2 * len(own)) <= 1
        assert abs((own["part"] == "val").sum() - 0.08 * len(own)) <= 1.2
    first, second = (set(known.query(f"fold == {n} and part == 'test'")["cell_id"]) for n in (0, 1))
    assert first != second


def test_a_query_is_tested_and_the_reference_is_not(two_slides):
    cells = two_slides.controls().cells()
    found = folds(cells, QUERY, "external_query")
    assert set(found.query("slide == 'b'")["part"]) == {"test", "unlabelled"}
    assert set(found.query("slide == 'a'")["part"]) == {"train", "val", "unlabelled"}
    with pytest.raises(ConfigError, match=r"no slide nobody \(there are: a, b\)"):
        folds(cells, PARAMS.model_copy(update={"query": ("nobody",)}), "external_query")


def test_without_a_query_the_splits_of_the_dataset_are_taken(two_slides):
    item = two_slides.slides[0]
    table = pd.read_parquet(item.splits)
    table.loc[:9, "split"] = "val"
    table.loc[10:29, "split"] = "gap"
    write_parquet(item.splits, table)
    cells = two_slides.controls().cells()
    found = folds(cells, PARAMS, "external_query").merge(cells, on=["slide", "cell_id"])
    known = found[found["label_cell_type"].notna()]
    asked = known["split"].replace({"gap": "buffer"})
    assert (known["part"] == asked).all()


def test_the_cap_is_of_labelled_cells(two_slides):
    found = folds(two_slides.controls().cells(), PARAMS.model_copy(update={"max_cells": 100}), "random_split")
    assert (found.query("fold == 0")["part"] != "unlabelled").sum() == 100


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_planted_types_are_found_and_controls_are_not_flattered(two_slides, protocol):
    scores = judged(two_slides, protocol, QUERY)
    names = {f"{probe}{metric}" for probe in ("", "linear_", "knn_", "mlp_") for metric in ("macro_f1", "accuracy")}
    assert names <= set(scores.model.metrics)
    for metric in names:
        assert scores.model.metrics[metric].value > 0.95, metric
    for probe in ("", "linear_", "knn_", "mlp_"):
        loss, shuffled = (row.metrics[f"{probe}log_loss"] for row in (scores.model, scores.controls["shuffled"]))
        assert loss.low <= loss.value <= loss.high < 0.3 < np.log(4) - 0.3 < shuffled.value
    for metric in names:
        assert scores.controls["shuffled"].metrics[metric].value < 0.5
    controls = judged(two_slides, protocol, QUERY, model="controls").controls
    assert set(controls) == {"majority", "coordinates", "log_counts", "pca"}
    assert controls["pca"].metrics["macro_f1"].value > 0.9
    assert controls["coordinates"].metrics["macro_f1"].value < 0.5
    assert set(controls["majority"].metrics) == {"macro_f1", "macro_precision", "accuracy"}


def test_sums_are_made_on_one_thread_whatever_is_allowed(two_slides, monkeypatch):
    seen, make = set(), annotation_rows.rows

    def watched(*given):
        seen.update(own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas")
        return make(*given)

    monkeypatch.setattr(annotation_rows, "rows", watched)
    with threadpool_limits(limits=2, user_api="blas"):
        judged(two_slides, "external_query", QUERY, model="controls")
    assert seen == {1}


def test_majority_by_hand(two_slides):
    path = divided(two_slides, "external_query", QUERY)
    cells = two_slides.controls().cells()
    table = long(pd.read_parquet(path)).merge(cells, on=["slide", "cell_id"])
    most = table.loc[table["part"] == "train", "label_cell_type"].value_counts().index[0]
    test = table.loc[table["part"] == "test", "label_cell_type"]
    share = (test == most).mean()
    row = judged(two_slides, "external_query", QUERY, model="controls", path=path).controls["majority"]
    assert row.metrics["accuracy"].value == pytest.approx(share)
    assert row.metrics["macro_precision"].value == pytest.approx(share / 4)
    assert row.metrics["macro_f1"].value == pytest.approx(2 * share / (1 + share) / 4)


def test_labels_of_tested_cells_change_nothing_that_is_fitted(two_slides):
    path = divided(two_slides, "random_split")
    before = judged(two_slides, "random_split", path=path)
    tested = long(pd.read_parquet(path)).query("part == 'test'")
    everywhere = set(long(pd.read_parquet(path)).query("part in ('train', 'val')")["cell_id"])
    only_tested = [name for name in tested["cell_id"].unique() if name not in everywhere]
    for item in two_slides.slides:
        table = pd.read_parquet(item.cells)
        own = table["cell_id"].isin(only_tested).to_numpy()
        table.loc[own, "label_cell_type"] = np.roll(table.loc[own, "label_cell_type"], 1)
        write_parquet(item.cells, table)
    after = judged(two_slides, "random_split", path=path)
    assert after.model.metrics != before.model.metrics
    assert after.model.about["probes"] == before.model.about["probes"]
    said = [np.sum(scores.model.about["confusion"], axis=0).tolist() for scores in (before, after)]
    assert said[0] == said[1]


def test_a_query_s_labels_do_not_move_the_folds(two_slides):
    before = folds(two_slides.controls().cells(), QUERY, "external_query")
    relabel(two_slides.slides[1], lambda labels: np.where(pd.isna(labels), None, labels[::-1]))
    after = folds(two_slides.controls().cells(), QUERY, "external_query")
    kept = before["slide"] == "a"
    pd.testing.assert_frame_equal(before[kept], after[kept])


def test_genes_of_tested_cells_do_not_move_the_controls(two_slides):
    import anndata

    path = divided(two_slides, "external_query", QUERY)
    rows = judged(two_slides, "external_query", QUERY, model="controls", path=path).controls
    item = two_slides.slides[1]
    table = anndata.read_h5ad(item.counts)
    table.X = table.X[::-1].copy()
    table.write_h5ad(item.counts)
    again = judged(two_slides, "external_query", QUERY, model="controls", path=path).controls
    for name in ("log_counts", "pca"):
        assert again[name].about["probes"] == rows[name].about["probes"]
        assert again[name].metrics != rows[name].metrics


def test_classes_that_nobody_is_trained_on_are_wrong_and_counted(two_slides):
    relabel(two_slides.slides[1], lambda labels: np.where(labels == "type0", "never seen", labels))
    scores = judged(two_slides, "external_query", QUERY)
    unseen = int((pd.read_parquet(two_slides.slides[1].cells)["label_cell_type"] == "never seen").sum())
    assert scores.settings["n_tested_of_unseen_classes"] == unseen > 0
    assert scores.model.metrics["accuracy"].value == pytest.approx(1 - unseen / scores.n, abs=0.03)
    assert np.array(scores.model.about["confusion"])[0, 0] == 0  # "never seen" sorts first


def test_a_slide_without_labels_is_never_scored(cohort):
    cohort.add("a", "d1")
    cohort.add("b", "d2")
    cohort.add("c", "d3", labels=False)
    scores = judged(cohort, "random_split")
    assert scores.n <= 2 * 135
    assert scores.settings["n_unlabelled"] == 150 + 30


def test_donors_in_common_are_named(two_slides):
    two_slides.add("c", "d2")
    scores = judged(two_slides, "external_query", QUERY)
    assert scores.settings["donors_trained_on_and_tested"] == ["d2"]
    assert scores.settings["n_tested_in_train_split"] == 45  # of 50 in slide b's train split, 5 without label


def test_one_class_and_nothing_to_test_are_refused(two_slides):
    with pytest.raises(InputError, match="no labelled cell is left for the part train"):
        folds(two_slides.controls().cells(), PARAMS.model_copy(update={"query": ("a", "b")}), "external_query")
    for item in two_slides.slides:
        relabel(item, lambda labels: np.where(pd.isna(labels), None, "tumour"))
    with pytest.raises(InputError, match="all 'tumour'"):
        folds(two_slides.controls().cells(), PARAMS, "random_split")
    with pytest.raises(ConfigError, match=r"tasks\.annotation\.params\.label: domain"):
        folds(two_slides.controls().cells(), PARAMS.model_copy(update={"label": "domain"}), "random_split")


def test_folds_of_other_cells_are_refused(two_slides):
    path = divided(two_slides, "random_split")
    write_parquet(path, pd.read_parquet(path).assign(cell_id=lambda table: "x" + table["cell_id"]))
    with pytest.raises(InputError, match="their cells are not those of the dataset"):
        judged(two_slides, "random_split", path=path)


def _predictions(cohort, path, classes, keep=lambda table: table):
    table = long(pd.read_parquet(path)).merge(cohort.controls().cells()[["slide", "cell_id", "label_cell_type"]])
    table = keep(table[table["part"] == "test"])
    said = (table["label_cell_type"].to_numpy()[:, None] == np.array(classes)).astype(np.float32)
    table[[f"p_{name}" for name in classes]] = said
    found = cohort.root / "predictions.parquet"
    write_predictions(found, table, Origin("net", 0, "weights", "v1"))
    return found


def test_predictions_are_scored_without_probes(two_slides):
    path = divided(two_slides, "random_split")
    predictions = _predictions(two_slides, path, [f"type{k}" for k in range(4)])
    scores = judged(two_slides, "random_split", model="net", path=path, predictions=predictions)
    assert set(scores.rows) == {"model"}
    found = {name: item.value for name, item in scores.model.metrics.items()}
    assert found == dict.fromkeys(("macro_f1", "macro_precision", "accuracy"), 1.0) | {"log_loss": 0.0}


def test_what_is_said_of_each_cell_is_kept_for_maps(two_slides):
    scores = judged(two_slides, "external_query", QUERY)
    answers = scores.answers()
    assert len(answers) == scores.n
    right = (answers["answer_model"] == answers["truth"]).mean()
    assert right == pytest.approx(scores.model.metrics["accuracy"].value)
    assert answers["loss_model"].mean() == pytest.approx(scores.model.metrics["log_loss"].value)
    assert set(answers["slide"]) == {"b"}


def test_predictions_that_lack_cells_or_classes_are_refused(two_slides):
    path = divided(two_slides, "random_split")
    predictions = _predictions(two_slides, path, [f"type{k}" for k in range(4)], lambda table: table[5:].copy())
    with pytest.raises(InputError, match="5 test cells of fold 0 have none"):
        judged(two_slides, "random_split", model="net", path=path, predictions=predictions)
    other = _predictions(two_slides, path, [f"type{k}" for k in range(4)])
    table = pd.read_parquet(other).rename(columns={"p_type3": "p_tumour"})
    write_predictions(other, table, Origin("net", 0, "weights", "v1"))
    with pytest.raises(InputError, match="they are of the classes type0, type1, type2, tumour"):
        judged(two_slides, "random_split", model="net", path=path, predictions=other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_intervals_units_and_json(cohort, protocol):
    for number in range(5):
        cohort.add(f"s{number}", f"d{number}", n=60, noise=1.5)
    scores = judged(cohort, protocol)
    assert scores.unit == "donor"
    assert set(scores.model.per_unit["linear_macro_f1"]) == {f"d{number}" for number in range(5)}
    for row in scores.rows.values():
        for metric, estimate in row.metrics.items():
            most = np.inf if metric.endswith("log_loss") else 1
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= most
    one, two = (judged(cohort, protocol).to_json() for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_repeats_do_not_narrow_an_interval_over_cells(two_slides):
    for item in two_slides.slides:
        rng = np.random.default_rng(0)
        relabel(item, lambda labels, rng=rng: np.where(rng.uniform(size=len(labels)) < 0.3, "type0", labels))
    widths = []
    for repeats in (1, 4):
        params = PARAMS.model_copy(update={"repeats": repeats, "bootstrap": 500})
        estimate = judged(two_slides, "random_split", params, model="controls").controls["pca"].metrics["accuracy"]
        widths.append(estimate.high - estimate.low)
    assert widths[1] > 0.8 * widths[0]  # independent draws would give half
