from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import read_embedding
from mistline.tasks.composition import Params, evaluate
from mistline.tasks.composition_around import Around, gather_cells
from mistline.tasks.composition_rows import Answer, answers, score
from mistline.tasks.stats import Unit
from tests.unit.tasks.test_composition import PARAMS, divide, relabel, shuffle_known

PROTOCOL = "around_cell"


@pytest.fixture
def by_slide(cohort):
    for slide, split in (("a", "train"), ("b", "val"), ("c", "test"), ("d", "test")):
        divide(cohort.add(slide, f"donor-{slide}", n=500), split)
    return cohort


def know_neighbours(cohort):
    """Give every cell the mean embedding of the others of its niche."""
    for item in cohort.slides:
        ids, rows = read_embedding(item.embedding)
        table = pd.read_parquet(item.cells)
        niche = (table["x_um"] // 100 * 10 + table["y_um"] // 100).to_numpy(dtype=int)
        total, n = np.zeros((100, rows.shape[1])), np.bincount(niche, minlength=100)
        np.add.at(total, niche, rows)
        cohort.embed(item, list(ids), ((total[niche] - rows) / (n[niche, None] - 1)).astype(np.float32))


def test_a_cell_by_itself_tells_nothing_of_types_at_random_places_and_its_neighbours_do(by_slide):
    alone = evaluate(by_slide.inputs(), PARAMS, PROTOCOL)
    assert (alone.unit, alone.n) == ("niche", alone.settings["n_cells"]["test"])
    controls = evaluate(by_slide.controls(), PARAMS, PROTOCOL).controls
    assert set(controls) == {"mean_composition", "coordinates", "knn_mean", "log_counts", "pca", "neighbour_mean"}
    know_neighbours(by_slide)
    known = evaluate(by_slide.inputs(), PARAMS, PROTOCOL)
    for row in (known.model, controls["neighbour_mean"]):
        assert row.metrics["pearson"].value > 0.8
        assert row.metrics["kl"].value < 0.4 * controls["mean_composition"].metrics["kl"].value
    for row in (alone.model, controls["pca"], known.controls["shuffled"]):
        assert abs(row.metrics["pearson"].value) < 0.15
        assert row.metrics["kl"].value > 0.9 * controls["mean_composition"].metrics["kl"].value
    assert all(len(row.about["what"]) > 20 for row in controls.values())


def test_a_cell_is_not_among_those_around_it(cohort):
    item = cohort.add("a", "d", n=8)
    # Niches (0,0) train: t, u, u; (0,1) test: t, without a label; (1,0) test and train; (1,1) train: u alone.
    places = {"x_um": [10, 20, 30, 110, 120, 10, 20, 150], "y_um": [10, 20, 30, 10, 20, 110, 120, 150]}
    labels = ["t", "u", "u", "t", None, "t", "t", "u"]
    write_parquet(item.cells, pd.read_parquet(item.cells).assign(**places, label_cell_type=labels))
    divide(item, ["train", "train", "train", "test", "test", "train", "test", "train"])
    found = gather_cells(cohort.inputs(), PARAMS.model_copy(update={"min_cells": 1}))
    assert list(found.table["split"]) == ["train", "train", "train", "test"]  # the test cell without a label is asked
    np.testing.assert_array_equal(found.truth, [[0, 1], [0.5, 0.5], [0.5, 0.5], [1, 0]])
    assert found.left_out == {
        "across two splits": 2,
        "with fewer than 1 labelled cells around": 2,
        "not drawn": 0,
    }
    assert found.n_unlabelled == 1
    value = dict(zip(pd.read_parquet(item.cells)["cell_id"], np.arange(8.0) ** 2, strict=True))

    def rows_of(cells):
        return cells["cell_id"].map(value).to_numpy()[:, None]

    np.testing.assert_array_equal(found.points(rows_of), [[0], [1], [4], [16]])
    np.testing.assert_allclose(found.others(rows_of), [[2.5], [2], [0.5], [9]], atol=1e-5)
    np.testing.assert_array_equal(found.groups, [0])


def test_own_rows_and_those_of_others_are_told_apart_on_several_slides(by_slide):
    found = gather_cells(by_slide.inputs(), Params.model_construct(**{**PARAMS.model_dump(), "max_cells": 50}))
    assert [found.count(split) for split in ("train", "val", "test")] == [50, 50, 50]
    embedding = by_slide.inputs().embedding
    all_rows, own = embedding(found.cells), found.points(embedding)
    np.testing.assert_array_equal(own, all_rows[found.asked])
    for item in (0, 70, 149):
        inside = found.member == found.member[found.asked[item]]
        inside[found.asked[item]] = False
        np.testing.assert_allclose(found.others(embedding)[item], all_rows[inside].mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(found.table["slide"], found.cells["slide"].to_numpy()[found.asked])


def test_the_labels_of_test_slides_change_nothing_that_is_predicted(by_slide):
    def predicted():
        return [answers(item, gather_cells(item, PARAMS), PARAMS) for item in (by_slide.inputs(), by_slide.controls())]

    before, truth = predicted(), gather_cells(by_slide.inputs(), PARAMS).truth
    for item in by_slide.slides[2:]:
        relabel(item, shuffle_known)
    for one, two in zip(before, predicted(), strict=True):
        assert list(one) == list(two)
        for name, answer in one.items():
            np.testing.assert_array_equal(answer.predicted, two[name].predicted)
    assert not np.array_equal(truth, gather_cells(by_slide.inputs(), PARAMS).truth)


def test_cells_of_one_niche_are_resampled_together():
    table = pd.DataFrame({"slide": "a", "donor": "d", "split": ["train", *["test"] * 40], "x_um": 0.0, "y_um": 0.0})
    truth = np.tile([[1.0, 0]], (41, 1))
    truth[21:] = [0, 1]
    unit = Unit("cell", np.zeros(40, dtype=np.int64), ("all",))
    member = np.array([0, *[1] * 20, *[2] * 20])
    cells = Around(pd.DataFrame(), member, table, truth, ("t", "u"), unit, {}, 0, np.arange(41))
    estimate = score(Answer(np.tile([[0.9, 0.1]], (40, 1))), cells, PARAMS).metrics["mae"]
    assert estimate.value == pytest.approx(0.5, abs=1e-3)
    assert estimate.low < 0.15 < 0.85 < estimate.high  # cells by themselves would give 0.38 to 0.62


def test_five_donors_are_paired_as_donors(cohort):
    divide(cohort.add("t", "t", n=400), "train")
    for i in range(5):
        divide(cohort.add(f"s{i}", f"d{i}", n=300), "test")
    for inputs in (cohort.inputs(), cohort.controls()):
        scores = evaluate(inputs, PARAMS, PROTOCOL)
        assert scores.unit == "donor"
        for row in scores.rows.values():
            assert set(row.per_unit["kl"]) == {f"d{i}" for i in range(5)}
        assert json.loads(json.dumps(scores.to_json(), allow_nan=False)) == scores.to_json()


def test_nobody_to_ask_is_one_sentence(by_slide):
    with pytest.raises(
        InputError, match=r"no train cell can be asked of its niche of 100 um \(\d+ with fewer than 999"
    ):
        evaluate(by_slide.inputs(), PARAMS.model_copy(update={"min_cells": 999}), PROTOCOL)
