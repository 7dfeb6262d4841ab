"""The tests of a table, and its ablation where the configuration asks for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mistline.core.errors import ConfigError
from mistline.core.files import write_json, write_parquet
from mistline.stages.compare import run
from tests.unit.tasks.test_ablation import answers, result

STEPS = json.dumps({"steps": ["plain", "more"], "variants": ["worse"]})


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Evaluations of three models and the controls, and what they say of each cell."""
    scores, tables = [], []
    about = {"task": "annotation", "protocol": "external_query", "dataset_version": "v", "controls_per_unit": {}}
    for model in ("plain", "more", "worse", "controls"):
        scores.append(tmp_path / f"{model}.json")
        tables.append(tmp_path / f"{model}.parquet")
        known = "plain" if model == "controls" else model
        write_json(scores[-1], about | result(known, 0) | {"model": model})
        write_parquet(tables[-1], answers(known, 0))
    return scores, tables


def test_an_ablation_stands_beside_the_tests(files, tmp_path):
    scores, tables = files
    run(scores, tmp_path / "found.json", tables, STEPS)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [line["row"] for line in found["ablation"]["rows"]] == ["plain", "more", "worse"]
    assert found["ablation"]["rows"][1]["metrics"]["macro_f1"]["is_better"] is True
    assert "macro_f1" in found["metrics"]


def test_without_one_there_is_none(files, tmp_path):
    run(files[0], tmp_path / "found.json")
    assert "ablation" not in json.loads((tmp_path / "found.json").read_text())


def test_answers_are_needed_for_every_evaluation(files, tmp_path):
    scores, tables = files
    with pytest.raises(ConfigError, match="4 evaluations and 3 files of answers"):
        run(scores, tmp_path / "found.json", tables[:3], STEPS)


def test_rows_of_imputed_genes_are_ranked_too(tmp_path):
    about = {"task": "imputation", "protocol": "gene_folds", "dataset_version": "v", "unit": "gene", "seed": 0}
    good = {"pcc": {"g": 0.9}, "ssim": {"g": 0.9}, "rmse": {"g": 0.1}, "js": {"g": 0.1}}
    weak = {name: {"g": 0.5} for name in good}
    write_json(tmp_path / "a.json", about | {"model": "a", "per_unit": good, "controls_per_unit": {}})
    write_json(tmp_path / "b.json", about | {"model": "controls", "per_unit": {}, "controls_per_unit": {"zero": weak}})
    run([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["accuracy_score"] == {"a": 1.0, "zero": 0.5}
