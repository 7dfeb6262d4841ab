from __future__ import annotations

import json

import numpy as np
import pytest

from mistline.tasks.compare import compare
from mistline.tasks.stats import bootstrap_mean, holm, paired

UNITS = [f"d{i}" for i in range(8)]


def result(model: str, seed: int, values: dict, controls: dict | None = None) -> dict:
    return {"model": model, "seed": seed, "per_unit": values, "controls_per_unit": controls or {}}


def units(values) -> dict[str, float]:
    return dict(zip(UNITS, np.asarray(values, dtype=float).tolist(), strict=True))


@pytest.fixture
def table() -> list[dict]:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.4, 0.6, 8)
    good, weak = base + 0.2, base - 0.1
    return [
        result("good", 0, {"ari": units(good), "log_loss": units(1 - good)}),
        result("good", 1, {"ari": units(good + 0.02), "log_loss": units(1 - good)}),
        result("weak", 0, {"ari": units(weak), "log_loss": units(1 - weak)}, {"shuffled": {"ari": units(base - 0.5)}}),
        result("controls", 0, {}, {"pca": {"ari": units(base), "log_loss": units(1 - base)}}),
    ]


def test_the_best_row_and_the_tests_against_it(table):
    found = compare(table)["ari"]
    assert (found["best"], found["best_control"]) == ("good", "pca")
    assert set(found["against_best"]) == {"weak", "pca", "shuffled (weak)"}
    assert all(test["p_holm"] >= test["p"] for test in found["against_best"].values())
    assert found["against_best_control"]["good"]["difference"] == pytest.approx(0.21)
    assert found["against_best_control"]["weak"]["difference"] == pytest.approx(-0.1)
    assert found["rows"]["good"]["n_seeds"] == 2
    assert found["rows"]["good"]["sd_seeds"] == pytest.approx(0.02 / np.sqrt(2))
    assert found["rows"]["pca"]["sd_seeds"] is None


def test_a_model_whose_truth_is_its_own_is_tested_against_its_own_controls_alone():
    base = np.linspace(0.0, 0.07, 8)
    ours = result("a", 0, {"pcc": units(base + 0.6)}, {"coordinates": {"pcc": units(base)}})
    theirs = result("b", 0, {"pcc": units(base + 0.2)}, {"coordinates": {"pcc": units(base + 0.9)}})
    found = compare([{**ours, "own_truth": True}, {**theirs, "own_truth": True}])["pcc"]
    against = found["against_best_control"]
    assert (found["best"], found["best_control"], found["against_best"]) == (None, None, {})
    assert (against["a"]["control"], against["b"]["control"]) == ("coordinates (a)", "coordinates (b)")
    assert against["a"]["difference"] == pytest.approx(0.6)
    assert against["b"]["difference"] == pytest.approx(-0.7)
    assert against["a"]["p_holm"] < 0.05


def test_nothing_is_best_of_a_metric_without_a_direction():
    rows = [result(name, 0, {"coverage_90": units(np.full(8, value))}) for name, value in (("a", 0.9), ("b", 0.999))]
    found = compare(rows)["coverage_90"]
    assert (found["best"], found["against_best"]) == (None, {})
    assert set(found["rows"]) == {"a", "b"}


def test_a_loss_is_best_when_small(table):
    assert compare(table)["log_loss"]["best"] == "good"


def test_rows_without_units_are_no_table_to_test():
    found = compare([result("a", 0, {"ari": {}}), result("controls", 0, {}, {"pca": {"ari": {}}})])
    assert found["ari"]["best"] is None
    assert json.dumps(found, allow_nan=False)


def test_too_few_units_give_no_p():
    few = {"a": 0.4, "b": 0.5}
    test = paired(few, {"a": 0.1, "b": 0.1, "c": 1.0})
    assert (test.n, test.p) == (2, None)
    assert test.difference == pytest.approx(0.35)


def test_equal_rows_are_not_different():
    assert paired(units(np.arange(8)), units(np.arange(8))).p == 1.0


def test_eight_pairs_one_way_reach_the_exact_smallest_p():
    assert paired(units(np.arange(1, 9)), units(np.zeros(8))).p == pytest.approx(2 / 2**8)


def test_holm_against_a_computation_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_mean_over_units_and_its_interval():
    estimate = bootstrap_mean(units(np.arange(8)), 2000, 0.95, np.random.default_rng(0))
    assert estimate.value == 3.5
    assert estimate.low == pytest.approx(3.5 - 1.96 * np.std(np.arange(8)) / np.sqrt(8), abs=0.15)
    left_out = bootstrap_mean({"a": 1.0, "b": float("nan")}, 100, 0.95, np.random.default_rng(0))
    assert (left_out.value, left_out.low, left_out.high) == (1.0, 1.0, 1.0)
