from __future__ import annotations

import json
from math import comb

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.tasks.retrieval import PROTOCOLS, Params, evaluate
from mistline.tasks.retrieval_search import Search, chance, first_alike, macro_recall, recall
from mistline.tasks.stats import Unit

PARAMS = Params(labels=("cell_type",), bootstrap=100, k=(1, 3))


@pytest.fixture
def slides(cohort):
    for name, donor in (("a", "d1"), ("b", "d1"), ("c", "d2")):
        cohort.add(name, donor)
    return cohort


def small(codes, groups, queries, unit=None):
    unit = unit or Unit("cell", np.zeros(len(queries), dtype=np.int64), ("all",))
    database = np.flatnonzero(np.array(codes) >= 0)
    return Search("t", np.array(codes), np.array(queries), database, np.array(groups), unit, 0)


def test_ranks_by_hand():
    # two slides on one line; cells 0 and 1 ask, 2 .. 5 answer; 1 lies on its own slide's cell 0
    points = np.array([[0.0], [0.0], [1.0], [2.0], [3.0], [9.0]], dtype=np.float32)
    search = small([0, 1, 2, 0, 1, 0], [0, 0, 1, 1, 1, 1], [0, 1])
    assert first_alike(points, search, 4).tolist() == [1, 2]
    assert first_alike(points, search, 2).tolist() == [1, 2]  # not among two
    row = search.score(points, PARAMS)
    assert row.metrics["t_recall_at_1"].value == 0
    assert row.metrics["t_recall_at_3"].value == 1


def test_recalls_by_hand():
    tables = np.array([[[1, 3], [4, 0], [0, 0]]])  # class x (missed, answered)
    assert recall(tables)[0] == pytest.approx(3 / 8)
    assert macro_recall(tables)[0] == pytest.approx((3 / 4 + 0) / 2)


def test_chance_by_hand():
    # slide 1 has 2 cells of class 0 and 3 of class 1
    search = small([0, 0, 1, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 2])
    found = chance(search, PARAMS).metrics
    first, second = (1 - comb(5 - alike, 3) / comb(5, 3) for alike in (2, 3))
    assert found["t_recall_at_1"].value == pytest.approx((2 * 2 / 5 + 3 / 5) / 3)
    assert found["t_macro_recall_at_1"].value == pytest.approx((2 / 5 + 3 / 5) / 2)
    assert found["t_recall_at_3"].value == pytest.approx((2 * first + second) / 3)


def test_chance_is_what_random_points_find():
    rng = np.random.default_rng(0)
    codes, groups = rng.choice(3, 900, p=[0.7, 0.2, 0.1]), np.repeat([0, 1, 2], 300)
    search = small(codes, groups, np.arange(900))
    expected = chance(search, PARAMS).metrics
    found = [search.score(rng.normal(size=(900, 5)).astype(np.float32), PARAMS).metrics for _ in range(10)]
    for name in expected:
        assert np.mean([row[name].value for row in found]) == pytest.approx(expected[name].value, abs=0.02)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_planted_types_are_found_and_controls_are_near_chance(slides, protocol):
    scores = evaluate(slides.inputs(), PARAMS, protocol)
    controls = evaluate(slides.controls(), PARAMS, protocol).controls
    assert set(controls) == {"coordinates", "log_counts", "pca", "chance"}
    chance_at_1 = controls["chance"].metrics["cell_type_recall_at_1"].value
    assert scores.model.metrics["cell_type_recall_at_1"].value > 0.95
    assert controls["pca"].metrics["cell_type_recall_at_1"].value > 0.9
    assert controls["coordinates"].metrics["cell_type_recall_at_1"].value == pytest.approx(chance_at_1, abs=0.1)
    assert scores.controls["shuffled"].metrics["cell_type_recall_at_1"].value == pytest.approx(chance_at_1, abs=0.1)
    assert all("what" in row.about for row in controls.values())


def test_a_cell_never_finds_its_own_slide_or_donor(slides):
    # on each slide all points are the same, so that only other slides could tell apart
    for number, item in enumerate(slides.slides):
        ids = pd.read_parquet(item.cells)["cell_id"].tolist()
        slides.embed(item, ids, np.full((len(ids), 2), number, dtype=np.float32))
        table = pd.read_parquet(item.cells)
        table["label_cell_type"] = "shared by a and b" if item.donor == "d1" else "only c"
        write_parquet(item.cells, table)
    slides_found = evaluate(slides.inputs(), PARAMS, "other_slides")
    donors_found = evaluate(slides.inputs(), PARAMS, "other_donors")
    assert slides_found.model.metrics["cell_type_recall_at_1"].value == pytest.approx(2 / 3)
    assert donors_found.model.metrics["cell_type_recall_at_1"].value == 0
    assert donors_found.settings["per_label"]["cell_type"]["n_without_like"] == donors_found.n


def test_unlabelled_cells_neither_ask_nor_answer(slides):
    scores = evaluate(slides.inputs(), PARAMS, "other_slides")
    test = slides.inputs().cells("test")
    assert scores.n == test["label_cell_type"].notna().sum()
    about = scores.settings["per_label"]["cell_type"]
    assert about["n_unlabelled"] == test["label_cell_type"].isna().sum() > 0
    assert about["n_database"] == 3 * 135


def test_several_labels_stand_side_by_side(slides):
    for item in slides.slides:
        table = pd.read_parquet(item.cells)
        table["label_half"] = np.where(table["x_um"] < 250, "left", "right")
        write_parquet(item.cells, table)
    params = PARAMS.model_copy(update={"labels": ("cell_type", "half")})
    row = evaluate(slides.controls(), params, "other_slides").controls["coordinates"]
    assert row.metrics["half_recall_at_1"].value > 0.9  # a place tells the half, and not the type
    assert row.metrics["cell_type_recall_at_1"].value < 0.5


def test_draws_are_the_same_for_every_row(slides):
    params = PARAMS.model_copy(update={"max_queries": 60, "max_database": 200})
    scores = evaluate(slides.inputs(), params, "other_slides")
    controls = evaluate(slides.controls(), params, "other_slides")
    assert scores.settings["per_label"] == controls.settings["per_label"]
    assert scores.n <= 60
    assert scores.settings["per_label"]["cell_type"]["n_database"] <= 200


def test_labels_of_queries_change_nothing_but_the_score(slides):
    before = evaluate(slides.controls(), PARAMS, "other_slides")
    for item in slides.slides:
        table = pd.read_parquet(item.cells)
        table["label_cell_type"] = table["label_cell_type"].to_numpy()[::-1]
        write_parquet(item.cells, table)
    after = evaluate(slides.controls(), PARAMS, "other_slides")
    assert before.settings["per_label"]["cell_type"]["n_database"] == 405
    assert after.controls["pca"].metrics["cell_type_recall_at_1"].value < 0.5


def test_one_slide_one_donor_and_one_class_are_refused(cohort):
    cohort.add("a", "d1")
    with pytest.raises(InputError, match="asks other slides, and there is only a"):
        evaluate(cohort.inputs(), PARAMS, "other_slides")
    cohort.add("b", "d1")
    with pytest.raises(InputError, match="asks other donors, and there is only d1"):
        evaluate(cohort.inputs(), PARAMS, "other_donors")
    with pytest.raises(InputError, match="135 labelled cells can be found on other slides, 200 are looked at"):
        evaluate(cohort.inputs(), PARAMS.model_copy(update={"k": (200,)}), "other_slides")
    with pytest.raises(ConfigError, match=r"tasks\.retrieval\.params\.label: domain"):
        evaluate(cohort.inputs(), PARAMS.model_copy(update={"labels": ("domain",)}), "other_slides")
    for item in cohort.slides:
        write_parquet(item.cells, pd.read_parquet(item.cells).assign(label_cell_type="tumour"))
    with pytest.raises(InputError, match="all 'tumour'"):
        evaluate(cohort.inputs(), PARAMS, "other_slides")


@pytest.mark.parametrize("k", [(0, 1), (5, 1), (1, 1), ()])
def test_numbers_of_neighbours_that_make_no_sense(k):
    with pytest.raises(ValidationError):
        Params(labels=("cell_type",), k=k)


def test_intervals_units_and_json(cohort):
    for number in range(5):
        cohort.add(f"s{number}", f"d{number}", n=60, noise=1.5)
    for inputs in (cohort.inputs, cohort.controls):
        scores = evaluate(inputs(), PARAMS, "other_donors")
        assert scores.unit == "donor"
        for row in scores.rows.values():
            assert set(row.per_unit["cell_type_macro_recall_at_3"]) == {f"d{number}" for number in range(5)}
            for estimate in row.metrics.values():
                assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        one, two = (evaluate(inputs(), PARAMS, "other_donors").to_json() for _ in range(2))
        assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)
