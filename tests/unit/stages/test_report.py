"""The report stage: refuses what does not fit, and leaves nothing half-written."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_json, write_json
from mistline.stages.report import run
from tests.unit.report.tree import write_tree


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "results", n_slides=1)


def refused(tree, out, error, match, **changes):
    with pytest.raises(error, match=match):
        run(**tree.options(out) | changes)
    assert not out.exists() or [path for path in out.rglob("*") if path.is_file()] == []


def test_results_of_another_dataset_are_refused(tree, tmp_path):
    write_json(tree.scores[0], read_json(tree.scores[0]) | {"dataset_version": "f" * 64})
    refused(tree, tmp_path / "out", InputError, "was made from dataset ffffffffffff.*run evaluate again")


def test_a_changed_manifest_is_refused(tree, tmp_path):
    path = tree.root / "dataset/manifest.json"
    write_json(path, read_json(path) | {"slides": []})
    refused(tree, tmp_path / "out", InputError, "changed after it was sealed")


def test_a_missing_record_is_refused_and_nothing_is_left(tree, tmp_path):
    for path in (tree.root / "slides/s1/shards/cell").glob("*.lmdb"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-4096])
    refused(tree, tmp_path / "out", InputError, "lmdb")


def test_tables_of_different_cells_are_refused(tree, tmp_path):
    path = tree.root / "dataset/splits/s1.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    refused(tree, tmp_path / "out", InputError, "list 40, 40, 39 cells")


@pytest.mark.parametrize(
    ("text", "match"), [("nonsense", "not valid JSON"), ("[]", "no slides"), ('[{"slide": "s1"}]', "lacks donor")]
)
def test_slides_that_are_none_are_refused(tree, tmp_path, text, match):
    refused(tree, tmp_path / "out", ConfigError, match, slides_json=text)


def test_an_unknown_setting_is_refused(tree, tmp_path):
    refused(tree, tmp_path / "out", ConfigError, "did you mean title", params=json.dumps({"titel": "x"}))


def test_settings_are_used_and_recorded(tree, tmp_path):
    out = tmp_path / "out"
    run(**tree.options(out) | {"params": json.dumps({"title": "Mein <Bericht>", "crops_per_slide": 3}), "seed": 5})
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "<h1>Mein &lt;Bericht&gt;</h1>" in text
    assert "3 of 40 drawn at random (seed 5), channel DAPI." in text
    recorded = read_json(out / "index.html.meta.json")
    assert recorded["stage"] == "report"
    assert recorded["params"]["crops_per_slide"] == 3
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "tables", "figures"),
        *("index.html.meta.json", "tables.meta.json", "figures.meta.json"),
    }
