from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.provenance import sidecar
from mistline.core.seeds import ranked
from mistline.stages import evaluate
from mistline.store.embeddings import Origin
from mistline.store.manifest import read_manifest, write_manifest
from mistline.store.pictures import Pictures, write_pictures

PARAMS = json.dumps({"label": "cell_type", "bootstrap": 100})


@pytest.fixture
def options(cohort, tmp_path):
    manifest = tmp_path / "manifest.json"
    version = write_manifest(manifest, {"slides": [{"slide": "a"}, {"slide": "b"}]})
    items = [cohort.add("a", "d1"), cohort.add("b", "d2")]
    for item in items:
        from mistline.store.embeddings import read_embedding

        ids, rows = read_embedding(item.embedding)
        cohort.embed(item, list(ids), rows, version)
    columns = {
        name: [getattr(item, name) for item in items] for name in items[0].__dataclass_fields__ if name != "patches"
    }
    return {
        **columns,
        "task": "clustering",
        "protocol": "fixed_resolution",
        "model": "good",
        "seed": 0,
        "manifest": manifest,
        "scores": tmp_path / "evaluation" / "good.seed-0.json",
        "params": PARAMS,
    }


def test_json_is_the_contract(options):
    evaluate.run(**options)
    found = json.loads(options["scores"].read_text())
    assert set(found) == {
        *("task", "protocol", "model", "seed", "dataset_version", "unit", "n", "own_truth"),
        *("metrics", "per_unit", "controls", "controls_per_unit", "ceilings", "settings", "seconds", "peak_mb"),
    }
    assert found["dataset_version"] == read_manifest(options["manifest"]).version
    assert set(found["metrics"]) == {"ari", "nmi", "ami"}
    assert set(found["controls"]) == {"shuffled"}
    for metrics in (found["metrics"], *found["controls"].values()):
        assert all(set(estimate) == {"value", "low", "high"} for estimate in metrics.values())
    assert found["seconds"] > 0
    assert found["peak_mb"] > 10
    assert json.loads(sidecar(options["scores"]).read_text())["stage"] == "evaluate"


def test_scores_do_not_depend_on_the_threads(options):
    found = []
    for threads in (1, 2):
        evaluate.run(**options, threads=threads)
        values = json.loads(options["scores"].read_text())
        found.append((values["metrics"], values["controls"], values["settings"]))
    assert found[0] == found[1]


def test_controls_are_judged_without_a_model(options):
    del options["embedding"]
    evaluate.run(**{**options, "model": "controls"})
    found = json.loads(options["scores"].read_text())
    assert found["metrics"] == {}
    assert set(found["controls"]) == {"coordinates", "log_counts", "pca", "one_cluster"}
    assert found["settings"]["controls"]["pca"]["what"]


def test_another_dataset_is_refused_and_nothing_written(options):
    write_manifest(options["manifest"], {"slides": [{"slide": "other"}]})
    with pytest.raises(InputError, match="another dataset version"):
        evaluate.run(**options)
    assert not options["scores"].exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "clusterings"}, "did you mean clustering"),
        ({"protocol": "oracel"}, "did you mean oracle"),
        ({"params": '{"label": "cell_type", "resolutio": 1}'}, "did you mean resolution"),
        ({"donor": ["d1"]}, "not equally many"),
        ({"embedding": None}, "a model is judged by its embeddings"),
        ({"pictures": Path("p.safetensors")}, "a model is judged by its embeddings"),
        ({"model": "controls"}, "the controls by neither"),
    ],
)
def test_wrong_options_are_one_sentence(options, change, message):
    with pytest.raises(ConfigError, match=message):
        evaluate.run(**{**options, **change})


def test_answers_of_scored_cells_are_written_for_maps(options, tmp_path):
    answers = tmp_path / "evaluation" / "good.seed-0.parquet"
    evaluate.run(**options, answers=answers)
    found = pd.read_parquet(answers)
    assert list(found.columns[:3]) == ["slide", "cell_id", "truth"]
    assert json.loads(sidecar(answers).read_text())["stage"] == "evaluate"


def test_pictures_are_judged_beside_real_images(options, tmp_path, monkeypatch):
    drawn = {name: np.random.default_rng(number).integers(0, 256, (150, 1, 16, 16)).astype(np.uint8)
             for number, name in enumerate(options["slide"])}  # fmt: skip
    opened = SimpleNamespace(open_images=lambda manifest, slide: lambda rows, size_px: drawn[slide][rows])
    monkeypatch.setitem(sys.modules, "images_of_a_test", opened)
    monkeypatch.setattr(evaluate, "_IMAGES", "images_of_a_test")
    slide, cell_id, images = [], [], []
    for name, path in zip(options["slide"], options["splits"], strict=True):
        split = pd.read_parquet(path)
        rows = np.flatnonzero(split["split"] == "test")
        rows = rows[ranked(split["cell_id"].iloc[rows].tolist(), 0, "generation", name)[:20]]
        slide, cell_id = slide + [name] * 20, cell_id + split["cell_id"].iloc[rows].tolist()
        images.append(drawn[name][rows])
    pictures, real = tmp_path / "recon.safetensors", np.concatenate(images)
    made = Origin("good", 0, "w", read_manifest(options["manifest"]).version)
    told = Pictures(np.array(slide), np.array(cell_id), {"generated": real, "dealt": real[::-1]}, made, {"steps": 3})
    write_pictures(pictures, told)
    params = json.dumps({"size_px": 16, "n_cells": 20, "n_train": 50, "n_genes": 3, "bootstrap": 100})
    options |= {"task": "generation", "protocol": "recon", "params": params, "embedding": None}
    evaluate.run(**options, pictures=pictures)
    found = json.loads(options["scores"].read_text())
    assert (set(found["controls"]), found["ceilings"], found["n"]) == ({"shuffled"}, {}, 40)
    assert found["metrics"]["psnr"]["value"] == 100
    assert found["controls"]["shuffled"]["psnr"]["value"] < 20
    assert "pictures" in json.loads(sidecar(options["scores"]).read_text())["inputs"]
    write_pictures(pictures, replace(told, origin=replace(made, seed=1)))
    with pytest.raises(InputError, match=r"made from another seed \(1, this evaluation is of 0\); run generate again"):
        evaluate.run(**options, pictures=pictures)
