from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mistline.config.ablation import Ablation
from mistline.tasks.ablation import ablation
from mistline.tasks.class_loss import SMALLEST, draw_means, losses, sums_by_unit
from mistline.tasks.stats import choose_unit

STEPS = Ablation(steps=("plain", "more"), variants=("worse",))
N_DONORS, N_CELLS = 8, 400
GAIN = {"plain": 0.0, "more": 0.1, "worse": -0.1}


def result(model: str, seed: int, unit: str = "donor") -> dict:
    rng = np.random.default_rng(1)
    values = rng.uniform(0.3, 0.7, N_DONORS) + GAIN[model] + seed / 100  # donors differ by more than rows do
    per_unit = {f"d{i}": float(value) for i, value in enumerate(values)} if unit == "donor" else {}
    losses = {key: 1 - value for key, value in per_unit.items()}
    metrics = {name: {"value": 0.5 + GAIN[model] * sign} for name, sign in (("macro_f1", 1), ("log_loss", -1))}
    per = {"macro_f1": per_unit, "log_loss": losses}
    return {"model": model, "seed": seed, "unit": unit, "metrics": metrics, "per_unit": per}


def answers(model: str, seed: int) -> pd.DataFrame:
    """Cells of which a better model gets more right, whatever their order in the file."""
    rng = np.random.default_rng(2)
    hard = rng.random(N_CELLS)
    right = hard < 0.6 + 2 * GAIN[model]
    table = pd.DataFrame({"slide": "s", "cell_id": [f"c{i}" for i in range(N_CELLS)], "truth": "a"})
    table["answer_model"] = np.where(right, "a", "b")
    table["loss_model"] = (hard + 1 - GAIN[model]).astype(np.float32)
    keys = ["slide", "cell_id", "truth", "answer_model"]
    return table.sample(frac=1, random_state=seed + len(model)).astype(dict.fromkeys(keys, "category"))


def of(lines: list[dict], row: str) -> dict:
    return next(line for line in lines if line["row"] == row)


def compared(unit: str, models=("plain", "more", "worse")) -> list[dict]:
    pairs = [(model, seed) for model in models for seed in (0, 1)]
    found = ablation(STEPS, [result(*pair, unit) for pair in pairs], [answers(*pair) for pair in pairs])
    assert json.dumps(found, allow_nan=False)
    return found


def test_each_row_is_compared_with_the_one_it_differs_from():
    assert [(line["row"], line["kind"], line["against"]) for line in compared("donor")] == [
        ("plain", "step", None),
        ("more", "step", "plain"),
        ("worse", "variant", "more"),
    ]


def test_donors_are_paired_so_that_their_own_scatter_does_not_count():
    lines = compared("donor")
    gain = of(lines, "more")["metrics"]["macro_f1"]
    assert (gain["unit"], gain["n"], gain["is_better"]) == ("donor", N_DONORS, True)
    assert gain["difference"] == pytest.approx(0.1)
    assert gain["low"] == pytest.approx(0.1)
    assert gain["p"] == pytest.approx(2 / 2**N_DONORS)
    assert of(lines, "more")["metrics"]["log_loss"]["is_better"] is True
    assert of(lines, "worse")["metrics"]["log_loss"]["is_better"] is False


def test_where_cells_are_resampled_they_are_paired_by_id():
    lines = compared("cell")
    gain = of(lines, "more")["metrics"]
    assert set(gain) == {"accuracy", "log_loss"}  # what a macro average is of one cell is not known
    assert (gain["accuracy"]["unit"], gain["accuracy"]["n"], gain["accuracy"]["p"]) == ("cell", N_CELLS, None)
    assert gain["accuracy"]["difference"] == pytest.approx(0.2, abs=0.06)
    assert gain["accuracy"]["low"] > 0.1
    assert gain["log_loss"]["difference"] == pytest.approx(-0.1, abs=1e-6)
    assert gain["log_loss"]["is_better"] is True


def test_equal_rows_have_an_interval_around_nothing():
    same = [result("plain", 0) | {"model": name} for name in ("plain", "more")]
    (line,) = [found for found in ablation(STEPS, same, [answers("plain", 0)] * 2) if found["against"]]
    assert line["metrics"]["macro_f1"]["difference"] == 0
    assert line["metrics"]["macro_f1"]["is_better"] is None


def test_few_units_give_a_difference_without_interval():
    few = [result(model, 0) for model in ("plain", "more")]
    for item in few:
        item["per_unit"]["macro_f1"] = dict(list(item["per_unit"]["macro_f1"].items())[:3])
    found = of(ablation(STEPS, few, [answers("plain", 0)] * 2), "more")["metrics"]["macro_f1"]
    assert (found["n"], found["low"], found["p"], found["is_better"]) == (3, None, None, None)


def test_a_row_that_could_not_be_run_is_left_out():
    assert [line["row"] for line in compared("donor", ("plain", "more"))] == ["plain", "more"]


def test_a_row_is_named_once():
    with pytest.raises(ValueError, match="named more than once: a"):
        Ablation(steps=("a", "b"), variants=("a",))


def test_losses_by_hand():
    probability = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    assert losses(probability, np.array([0, 2])) == pytest.approx(-np.log([0.5, 0.7]))
    assert losses(probability, np.array([2, 2]))[0] == pytest.approx(-np.log(SMALLEST))


def test_replicates_of_a_mean_scatter_like_the_mean_of_units_and_of_cells():
    rng = np.random.default_rng(0)
    values = rng.normal(2, 1, 600)
    donors = np.array([f"d{i % 6}" for i in range(600)])
    by_donor = choose_unit(donors, donors)
    by_cell = choose_unit(np.full(600, "d"), np.full(600, "s"))
    for unit in (by_donor, by_cell):
        drawn = draw_means([values], [unit], 3000, [np.random.default_rng(3)])[0]
        sums = sums_by_unit(values, unit)
        means = sums[:, 0] / sums[:, 1]
        expected = means.std() / np.sqrt(6) if unit is by_donor else 1 / np.sqrt(600)
        assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)
        assert drawn.std() == pytest.approx(expected, rel=0.15)
