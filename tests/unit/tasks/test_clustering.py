from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.tasks.clustering import PROTOCOLS, Params, evaluate

PARAMS = Params(label="cell_type", bootstrap=200)


@pytest.fixture
def two_slides(cohort):
    cohort.add("a", "d1")
    cohort.add("b", "d2")
    return cohort


def test_planted_types_are_found_and_controls_are_not_flattered(two_slides):
    params = PARAMS.model_copy(update={"resolution": 0.5})
    scores = evaluate(two_slides.inputs(), params, "fixed_resolution")
    assert scores.model.metrics["ari"].value > 0.95
    assert abs(scores.controls["shuffled"].metrics["ari"].value) < 0.1
    controls = evaluate(two_slides.controls(), params, "fixed_resolution").controls
    assert set(controls) == {"coordinates", "log_counts", "pca", "one_cluster"}
    assert abs(controls["coordinates"].metrics["ari"].value) < 0.1
    assert controls["pca"].metrics["ari"].value > 0.9
    assert controls["one_cluster"].metrics["ari"].value == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_interval_holds_its_estimate(two_slides, protocol):
    rows = [
        row
        for inputs in (two_slides.inputs(), two_slides.controls())
        for row in evaluate(inputs, PARAMS, protocol).rows.values()
    ]
    for row in rows:
        for estimate in row.metrics.values():
            assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_oracle_is_never_below_and_says_what_it_is(two_slides):
    fixed = evaluate(two_slides.inputs(), PARAMS, "fixed_resolution")
    oracle = evaluate(two_slides.inputs(), PARAMS, "oracle")
    assert (fixed.settings["oracle"], oracle.settings["oracle"]) == (False, True)
    for metric, estimate in fixed.model.metrics.items():
        assert oracle.model.metrics[metric].value >= estimate.value
    assert set(oracle.model.about["resolution"]) == set(oracle.model.metrics)


def test_unlabelled_cells_are_counted_and_never_scored(two_slides):
    inputs = two_slides.inputs()
    test = inputs.cells("test")
    scores = evaluate(inputs, PARAMS, "fixed_resolution")
    missing = int(test["label_cell_type"].isna().sum())
    assert missing > 0
    assert scores.settings["n_unlabelled"] == missing
    assert scores.n == len(test) - missing


def test_the_same_cells_for_every_model_and_the_cap_is_stated(two_slides):
    scores = evaluate(two_slides.inputs(), PARAMS.model_copy(update={"max_cells": 100}), "fixed_resolution")
    assert scores.settings["subsampled"]
    assert scores.settings["n_clustered"] == 100
    assert scores.n + scores.settings["n_unlabelled"] == 100


def test_unit_is_donors_from_five_on(cohort):
    for i in range(5):
        cohort.add(f"s{i}", f"d{i}", n=60)
    scores = evaluate(cohort.inputs(), PARAMS, "fixed_resolution")
    assert scores.unit == "donor"
    assert set(scores.model.per_unit["ari"]) == {f"d{i}" for i in range(5)}


def test_few_donors_say_that_cells_are_resampled(two_slides):
    scores = evaluate(two_slides.inputs(), PARAMS, "fixed_resolution")
    assert scores.unit == "cell"
    assert scores.model.per_unit["ari"] == {}
    assert "within these slides only" in scores.settings["interval"]


def test_repeats_to_the_last_bit_and_is_json(two_slides):
    one, two = (evaluate(two_slides.inputs(), PARAMS, "fixed_resolution").to_json() for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_a_label_column_nobody_has(two_slides):
    with pytest.raises(ConfigError, match=r"no slide has this label column \(there are: cell_type\)"):
        evaluate(two_slides.inputs(), PARAMS.model_copy(update={"label": "domain"}), "fixed_resolution")


def test_a_slide_without_labels_beside_one_with(cohort):
    cohort.add("a", "d1")
    cohort.add("b", "d2", labels=False)
    scores = evaluate(cohort.inputs(), PARAMS, "fixed_resolution")
    assert scores.settings["n_unlabelled"] >= 100


def test_one_class_is_refused(two_slides):
    for item in two_slides.slides:
        table = pd.read_parquet(item.cells)
        table["label_cell_type"] = np.where(table["label_cell_type"].isna(), None, "tumour")
        table.to_parquet(item.cells)
    with pytest.raises(InputError, match="all 'tumour'"):
        evaluate(two_slides.inputs(), PARAMS, "fixed_resolution")
