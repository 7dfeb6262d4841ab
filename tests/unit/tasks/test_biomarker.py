from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import read_embedding
from mistline.tasks import biomarker_cv as cv
from mistline.tasks.biomarker import Params, evaluate
from mistline.tasks.biomarker_items import gather
from mistline.tasks.biomarker_rows import _auc, _balanced, _placement, _share
from mistline.tasks.files import FileInputs, Subject

PARAMS = Params(folds=2, repeats=2, bootstrap=100)


@pytest.fixture(autouse=True)
def fewer_penalties(monkeypatch):
    """Two in place of five: every fit counts here, and none of what is tested."""
    monkeypatch.setattr(cv, "PENALTIES", (0.1, 1.0))


@pytest.fixture
def patients(cohort):
    """Twelve donors, the last with two slides; the mean embedding tells the disease, counts and places do not."""
    for i in range(13):
        donor = min(i, 11)
        ill = donor % 2 == 1
        item = cohort.add(f"s{i:02d}", f"d{donor:02d}", n=24)
        ids, rows = read_embedding(item.embedding)
        cohort.embed(item, list(ids), (rows + 1.5 * ill).astype(np.float32))
        cohort.slides[-1] = replace(item, tissue="breast", disease="carcinoma" if ill else "healthy")
    return cohort


def change(cohort, number, **fields):
    cohort.slides[number] = replace(cohort.slides[number], **fields)


def label(cohort, values):
    for item, value in zip(cohort.slides, values, strict=True):
        cells = pd.read_parquet(item.cells)
        write_parquet(item.cells, cells.assign(label_her2=[None, *[value] * (len(cells) - 1)]))


def test_a_planted_disease_is_found_and_controls_are_not_flattered(patients):
    scores = evaluate(patients.inputs(), PARAMS, "nested_cv")
    assert (scores.unit, scores.n) == ("donor", 12)
    assert scores.settings["classes"] == {"positive": ["carcinoma"], "negative": ["healthy"]}
    assert scores.model.metrics["auc"].value > 0.95
    assert scores.model.metrics["balanced_accuracy"].value > 0.9
    controls = evaluate(patients.controls(), PARAMS, "nested_cv")
    assert set(controls.controls) == {"majority", "cell_count", "log_counts", "pca"}
    assert controls.settings["left_out"] == {"tissue": "all are of one tissue"}
    majority = controls.controls["majority"].metrics
    assert majority["auc"].value == 0.5
    assert majority["balanced_accuracy"].value == 0.5
    for row in (scores.controls["shuffled"], controls.controls["log_counts"], controls.controls["pca"]):
        assert row.metrics["auc"].value < 0.85
    for row in (*scores.rows.values(), *controls.rows.values()):
        for metric, estimate in row.metrics.items():
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert set(row.per_unit[metric]) <= {f"d{i:02d}" for i in range(12)}


def test_pooling_by_hand(patients):
    found = gather(patients.inputs(), PARAMS)
    assert list(found.items) == [f"d{i:02d}" for i in range(12)]
    assert list(found.n_cells()) == [24] * 11 + [48]
    pooled = found.pooled(patients.inputs().embedding)
    rows = [read_embedding(item.embedding)[1] for item in patients.slides]
    np.testing.assert_allclose(pooled[3], rows[3].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(pooled[11], np.concatenate(rows[11:]).mean(axis=0), rtol=1e-5)
    by_slide = gather(patients.inputs(), PARAMS.model_copy(update={"per": "slide"}))
    assert len(by_slide.items) == 13
    assert list(by_slide.donor[11:]) == ["d11", "d11"]


def test_scores_by_hand():
    """Two positives and two negatives in two folds: only pairs of one fold are compared."""
    positive = np.array([True, True, False, False])
    division = cv.Division(np.array([[0, 1, 0, 1]]), np.arange(4), 3, 0)
    found = cv.OutOfFold(np.array([[0.9, 0.2, 0.1, 0.2]]), {})
    right, shared = cv.concordance(found, positive, division)
    np.testing.assert_array_equal(right, [[1, 0], [0, 0.5]])
    np.testing.assert_array_equal(shared, [[1, 0], [0, 1]])
    once, twice = np.ones((1, 4), dtype=int), np.array([[2, 1, 1, 1]])
    assert _auc(right, shared, positive, once) == [0.75]
    assert _auc(right, shared, positive, twice) == pytest.approx([2.5 / 3])
    assert np.isnan(_auc(right, shared, positive, np.array([[1, 0, 0, 1]])))
    np.testing.assert_array_equal(_placement(right, shared, positive), [1, 0.5, 1, 0.5])
    correct = cv.correctness(found, positive)
    np.testing.assert_array_equal(correct, [1, 0, 1, 1])
    assert _balanced(correct, positive, once) == [0.75]
    assert np.isnan(_balanced(correct, positive, np.array([[1, 1, 0, 0]])))
    uneven = np.array([True, False, False, False])
    assert _share(correct, uneven).mean() == pytest.approx(_balanced(correct, uneven, once)[0])


def test_fewer_axes_give_the_same_fit():
    rng = np.random.default_rng(0)
    points, positive = rng.normal(size=(20, 50)), np.arange(20) % 2 == 0
    train = np.arange(14)
    turned = cv._rotated(points, train)
    assert turned.shape == (20, 14)
    standard = (points - points[train].mean(axis=0)) / points[train].std(axis=0)
    fits = [LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=5000) for _ in range(2)]
    p = [f.fit(x[train], positive[train]).predict_proba(x[14:]) for f, x in zip(fits, (standard, turned), strict=True)]
    np.testing.assert_allclose(p[0], p[1], atol=1e-5)


def test_a_fold_does_not_read_its_own_target(patients):
    inputs = patients.inputs()
    found = gather(inputs, PARAMS)
    division = cv.divide(found.positive, found.donor, PARAMS)
    points = found.pooled(inputs.embedding)
    before = cv.predict(lambda train: points, found.positive, division).probability
    fold = division.fold[0]
    alone = replace(division, fold=fold[None])
    turned = np.where(fold == 0, np.roll(found.positive, 1), found.positive)
    after = cv.predict(lambda train: points, turned, alone).probability
    assert not np.array_equal(turned, found.positive)
    np.testing.assert_array_equal(before[0, fold == 0], after[0, fold == 0])
    assert not np.array_equal(before[0, fold == 1], after[0, fold == 1])


def test_features_are_fitted_on_training_donors(patients):
    inputs = patients.controls()
    found = gather(inputs, PARAMS)
    division = cv.divide(found.positive, found.donor, PARAMS)
    asked = []
    cv.predict(lambda train: asked.append(train) or np.zeros((12, 1)), found.positive, division)
    assert len(asked) == PARAMS.folds * PARAMS.repeats
    for number, train in enumerate(asked):
        fold = division.fold[number // 2]
        np.testing.assert_array_equal(train, np.flatnonzero(fold != number % 2))


def test_slides_of_a_donor_share_their_fold(patients):
    found = gather(patients.inputs(), PARAMS.model_copy(update={"per": "slide"}))
    division = cv.divide(found.positive, found.donor, PARAMS)
    assert (division.fold[:, 11] == division.fold[:, 12]).all()
    assert (division.fold >= 0).all()
    scores = evaluate(patients.inputs(), PARAMS.model_copy(update={"per": "slide"}), "nested_cv")
    assert (scores.unit, scores.n, len(scores.model.per_unit["auc"])) == ("donor", 13, 12)


def test_a_label_is_a_target_too_and_donors_without_it_are_counted(patients):
    values = ["yes" if item.disease == "carcinoma" else "no" for item in patients.slides]
    label(patients, [None, *values[1:]])
    scores = evaluate(patients.inputs(), PARAMS.model_copy(update={"target": "her2"}), "nested_cv")
    assert (scores.n, scores.settings["n_without_target"]) == (11, 1)
    assert scores.settings["classes"] == {"positive": ["yes"], "negative": ["no"]}
    assert scores.model.metrics["auc"].value > 0.95


def test_some_of_several_values_can_be_asked_for(patients):
    change(patients, 0, disease="benign")
    params = PARAMS.model_copy(update={"positive": ("carcinoma",)})
    assert gather(patients.inputs(), params).values == {True: ("carcinoma",), False: ("benign", "healthy")}
    only = gather(patients.inputs(), params.model_copy(update={"negative": ("healthy",)}))
    assert (len(only.items), only.n_without_target) == (11, 1)


def test_the_tissue_is_a_control_where_there_are_several(patients):
    for number in range(0, 13, 2):
        change(patients, number, tissue="lung")
    change(patients, 12, tissue="breast")
    controls = evaluate(patients.controls(), PARAMS, "nested_cv")
    assert controls.controls["tissue"].metrics["auc"].value > 0.95  # it is confounded with the disease here
    change(patients, 3, tissue=None)
    assert "not every slide" in evaluate(patients.controls(), PARAMS, "nested_cv").settings["left_out"]["tissue"]


def test_repeats_to_the_last_bit_and_is_json(patients):
    for inputs in (patients.inputs, patients.controls):
        one, two = (evaluate(inputs(), PARAMS, "nested_cv").to_json() for _ in range(2))
        assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_too_few_donors_of_a_class_are_one_sentence(patients):
    with pytest.raises(
        InputError, match=r"tasks\.biomarker, disease: 6 donors are carcinoma, 5 folds need 10; add donors"
    ):
        evaluate(patients.inputs(), PARAMS.model_copy(update={"folds": 5}), "nested_cv")


def test_a_donor_of_two_values_is_refused(patients):
    change(patients, 12, disease="healthy")
    with pytest.raises(InputError, match=r"donor d11 is both 'carcinoma' and 'healthy'; correct it, or set per: slide"):
        evaluate(patients.inputs(), PARAMS, "nested_cv")
    assert len(gather(patients.inputs(), PARAMS.model_copy(update={"per": "slide"})).items) == 13


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"positive": ("carcinom",)}, "nobody is 'carcinom'"),
        ({"positive": ("carcinoma", "healthy")}, "every value is positive"),
        ({"positive": ("healthy",), "negative": ("healthy",)}, "both positive and negative"),
        ({"target": "her2"}, r"no slide has this label column \(there are: cell_type\)"),
    ],
)
def test_what_is_positive_must_be_clear(patients, update, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(patients.inputs(), PARAMS.model_copy(update=update), "nested_cv")


def test_three_values_or_one_are_not_two(patients):
    change(patients, 0, disease="benign")
    with pytest.raises(ConfigError, match="benign, carcinoma, healthy: there are 3 values, not two; say which are"):
        evaluate(patients.inputs(), PARAMS, "nested_cv")
    for number in range(13):
        change(patients, number, disease="healthy")
    with pytest.raises(ConfigError, match="there are 1 values, not two"):
        evaluate(patients.inputs(), PARAMS, "nested_cv")


def test_a_sheet_that_was_not_given(patients):
    bare = [replace(item, disease=None, tissue=None) for item in patients.slides]
    with pytest.raises(ConfigError, match="values of disease: none"):
        evaluate(FileInputs(bare, Subject("good", 0, "v1")), PARAMS, "nested_cv")
