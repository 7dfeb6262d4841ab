from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import read_embedding
from mistline.tasks.composition import Params, evaluate
from mistline.tasks.composition_niches import Niches, gather
from mistline.tasks.composition_rows import SMOOTHING, Answer, answers, score
from mistline.tasks.stats import Unit

PARAMS = Params(label="cell_type", niche_um=100, min_cells=5, bootstrap=100)


def divide(item, split):
    ids = pd.read_parquet(item.cells)["cell_id"]
    write_parquet(item.splits, pd.DataFrame({"cell_id": ids, "split": split}))


def relabel(item, change):
    table = pd.read_parquet(item.cells)
    write_parquet(item.cells, table.assign(label_cell_type=change(table["label_cell_type"])))


def shuffle_known(labels, seed=3):
    known = labels.notna().to_numpy()
    dealt = labels.copy()
    dealt[known] = np.random.default_rng(seed).permutation(labels[known].to_numpy())
    return dealt


@pytest.fixture
def by_slide(cohort):
    for slide, split in (("a", "train"), ("b", "val"), ("c", "test"), ("d", "test")):
        divide(cohort.add(slide, f"donor-{slide}", n=500), split)
    return cohort


def test_planted_proportions_are_found_and_controls_are_not_flattered(by_slide):
    scores = evaluate(by_slide.inputs(), PARAMS, "dataset_split")
    assert (scores.unit, scores.n) == ("niche", scores.settings["n_niches"]["test"])
    model, dealt = scores.model.metrics, scores.controls["shuffled"].metrics
    assert model["pearson"].value > 0.85  # a tenth of the cells is pooled without being labelled
    assert abs(dealt["pearson"].value) < 0.4
    controls = evaluate(by_slide.controls(), PARAMS, "dataset_split").controls
    assert set(controls) == {"mean_composition", "coordinates", "knn_mean", "log_counts", "pca"}
    assert controls["mean_composition"].metrics["pearson"].value == 0
    assert controls["pca"].metrics["pearson"].value > 0.8
    for name in ("mean_composition", "coordinates", "knn_mean"):
        assert model["kl"].value < 0.3 * controls[name].metrics["kl"].value
        assert model["mae"].value < 0.5 * controls[name].metrics["mae"].value
    for row in (*scores.rows.values(), *controls.values()):
        assert all(item.low <= item.value <= item.high for item in row.metrics.values())


def test_niches_by_hand(cohort):
    item = cohort.add("a", "d", n=8)
    # Two cells in each of (0,0) train, (0,1) test, (1,0) train and test, (1,1) train without a label.
    places = {"x_um": [10, 20, 110, 199, 10, 20, 150, 160], "y_um": [10, 99, 0, 20, 120, 130, 180, 190]}
    labels = ["t", "u", "u", "u", "t", "t", None, None]
    table = pd.read_parquet(item.cells).assign(**places, label_cell_type=labels)
    write_parquet(item.cells, table)
    divide(item, ["train", "train", "test", "test", "train", "test", "train", "train"])
    found = gather(cohort.inputs(), PARAMS.model_copy(update={"min_cells": 1}))
    assert found.classes == ("t", "u")
    assert list(found.split) == ["train", "test"]
    np.testing.assert_array_equal(found.truth, [[0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(found.member, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.table[["x_um", "y_um"]], [[50, 50], [150, 50]])
    assert found.left_out == {"across two splits": 1, "fewer than 1 labelled cells": 1, "not drawn": 0}
    np.testing.assert_array_equal(found.points(lambda cells: np.array([[2.0], [4], [5], [7]])), [[3], [6]])


def test_scores_by_hand():
    table = pd.DataFrame({"slide": "a", "donor": "d", "split": ["train", "test", "test"], "x_um": 0.0, "y_um": 0.0})
    truth = np.array([[0.5, 0.5], [1, 0], [0.5, 0.5]])
    unit = Unit("cell", np.zeros(2, dtype=np.int64), ("all",))
    niches = Niches(pd.DataFrame(), np.zeros(0, np.int64), table, truth, ("t", "u"), unit, {}, 0)
    row = score(Answer(np.array([[0.8, 0.2], [0.6, 0.4]])), niches, PARAMS)
    a, b, c = ((1 - SMOOTHING) * p + SMOOTHING / 2 for p in (0.8, 0.6, 0.4))
    kl = (-np.log(a) + 0.5 * np.log(0.5 / b) + 0.5 * np.log(0.5 / c)) / 2
    assert row.metrics["kl"].value == pytest.approx(kl)
    assert row.metrics["mae"].value == pytest.approx(((1 - a) + (b - 0.5)) / 2)
    assert row.metrics["pearson"].value == pytest.approx(1.0)
    assert row.about["pearson_per_class"] == {"t": 1.0, "u": 1.0}
    constant = score(Answer(np.full((2, 2), 0.5)), niches, PARAMS)
    assert constant.metrics["pearson"].value == 0


def test_the_truth_of_test_niches_changes_nothing_that_is_predicted(by_slide):
    inputs = (by_slide.inputs(), by_slide.controls())
    before = [answers(item, gather(item, PARAMS), PARAMS) for item in inputs]
    for item in by_slide.slides[2:]:
        relabel(item, shuffle_known)
    again = [answers(item, gather(item, PARAMS), PARAMS) for item in (by_slide.inputs(), by_slide.controls())]
    changed = gather(by_slide.inputs(), PARAMS).truth
    for one, two in zip(before, again, strict=True):
        assert list(one) == list(two)
        for name, answer in one.items():
            np.testing.assert_array_equal(answer.predicted, two[name].predicted)
            assert answer.about == two[name].about
    relabel(by_slide.slides[0], shuffle_known)
    trained = answers(by_slide.inputs(), gather(by_slide.inputs(), PARAMS), PARAMS)
    assert not np.array_equal(trained["model"].predicted, again[0]["model"].predicted)
    assert not np.array_equal(changed, gather(by_slide.inputs(), PARAMS).truth)


def test_unlabelled_cells_are_pooled_and_never_scored(by_slide):
    before = gather(by_slide.inputs(), PARAMS)
    assert before.n_unlabelled > 0
    item = by_slide.slides[2]
    ids, rows = read_embedding(item.embedding)
    rows = rows.copy()
    rows[::10] += 5  # those without a label
    by_slide.embed(item, list(ids), rows)
    after = gather(by_slide.inputs(), PARAMS)
    np.testing.assert_array_equal(before.truth, after.truth)
    pooled = after.points(by_slide.inputs().embedding)
    assert pooled[after.rows("test")].mean() > pooled[after.rows("train")].mean() + 0.1


def test_five_donors_are_resampled_as_donors(cohort):
    divide(cohort.add("t", "t", n=400), "train")
    for i in range(5):
        divide(cohort.add(f"s{i}", f"d{i}", n=300), "test")
    scores = evaluate(cohort.inputs(), PARAMS, "dataset_split")
    assert scores.unit == "donor"
    assert scores.settings["n_niches"]["val"] == 0
    values = scores.model.per_unit["kl"]
    assert set(values) == {f"d{i}" for i in range(5)}
    assert scores.model.metrics["kl"].value == pytest.approx(np.mean(list(values.values())))


def test_a_class_that_was_never_trained_on_is_named_and_scored(by_slide):
    relabel(by_slide.slides[0], lambda labels: labels.where(labels != "type3", "type2"))
    relabel(by_slide.slides[1], lambda labels: labels.where(labels != "type3", "type2"))
    scores = evaluate(by_slide.inputs(), PARAMS, "dataset_split")
    assert scores.settings["absent_in_training"] == ["type3"]
    assert np.isfinite(scores.model.metrics["kl"].value)


def test_the_draw_is_the_same_for_every_model_and_stated(by_slide):
    params = Params.model_construct(**{**PARAMS.model_dump(), "max_niches": 10})
    one, two = gather(by_slide.inputs(), params), gather(by_slide.controls(), params)
    assert one.count("test") == one.count("train") == 10
    assert one.left_out["not drawn"] > 0
    pd.testing.assert_frame_equal(one.table, two.table)


def test_repeats_to_the_last_bit_and_is_json(by_slide):
    for inputs in (by_slide.inputs, by_slide.controls):
        one, two = (evaluate(inputs(), PARAMS, "dataset_split").to_json() for _ in range(2))
        assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_slides_without_a_common_gene_have_the_other_controls(by_slide, monkeypatch):
    inputs = by_slide.controls()
    monkeypatch.setattr(type(inputs), "common_genes", lambda self: ())
    scores = evaluate(inputs, PARAMS, "dataset_split")
    assert set(scores.controls) == {"mean_composition", "coordinates", "knn_mean"}
    assert set(scores.settings["left_out"]) == {"log_counts", "pca"}


def test_a_label_column_nobody_has(by_slide):
    with pytest.raises(ConfigError, match=r"tasks\.composition\.params\.label: .*\(there are: cell_type\)"):
        evaluate(by_slide.inputs(), PARAMS.model_copy(update={"label": "domain"}), "dataset_split")


def test_one_class_is_refused(by_slide):
    for item in by_slide.slides:
        relabel(item, lambda labels: labels.where(labels.isna(), "tumour"))
    with pytest.raises(InputError, match="all 'tumour'"):
        evaluate(by_slide.inputs(), PARAMS, "dataset_split")


def test_cells_without_places_are_refused(by_slide):
    item = by_slide.slides[1]
    write_parquet(item.cells, pd.read_parquet(item.cells).assign(x_um=np.nan, y_um=np.nan))
    with pytest.raises(
        InputError, match=r"tasks\.composition: asks for coordinates, and 1 slides have none, such as b"
    ):
        evaluate(by_slide.inputs(), PARAMS, "dataset_split")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_cells": 10_000}, r"no train niche of 100 um can be judged \(\d+ fewer than 10000 labelled cells\)"),
        ({"niche_um": 1.0}, r"no train niche of 1 um"),
    ],
)
def test_nothing_to_judge_is_one_sentence(by_slide, change, message):
    with pytest.raises(InputError, match=message):
        evaluate(by_slide.inputs(), PARAMS.model_copy(update=change), "dataset_split")


def test_cells_divided_at_random_leave_no_niche(cohort):
    cohort.add("a", "d", n=600)
    with pytest.raises(InputError, match=r"25 across two splits"):
        evaluate(cohort.inputs(), PARAMS, "dataset_split")


def test_no_embedding_of_a_cell_is_replaced(by_slide):
    item = by_slide.slides[0]
    ids, rows = read_embedding(item.embedding)
    by_slide.embed(item, list(ids[1:]), rows[1:])
    by_slide.slides[0] = replace(item)
    with pytest.raises(InputError, match=f"cell {ids[0]} has no embedding"):
        evaluate(by_slide.inputs(), PARAMS, "dataset_split")
