from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError
from mistline.core.provenance import sidecar
from mistline.stages import train
from mistline.store.manifest import read_manifest
from tests.unit.data.conftest import SLIDES, build, run_seal

NAMES = {
    "config": "config.json",
    "weights": "weights.safetensors",
    "genes": "genes.txt",
    "metrics": "metrics.jsonl",
    "card": "card.md",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("train") / "results")


def _train(results: Path, out: Path, registry_name: str = "pca", **changes) -> dict[str, Path]:
    files = {option: out / name for option, name in NAMES.items()}
    values = {
        "dataset": results / "dataset" / "manifest.json",
        "model": "mine",
        "registry_name": registry_name,
        "params": '{"n_components": 4}',
        "seed": 1,
        **files,
    }
    train.run(**{**values, **changes})
    return files


@pytest.mark.parametrize("registry_name", ["pca", "image"])
def test_five_files_with_their_origin(results, tmp_path, registry_name):
    files = _train(results, tmp_path / "m", registry_name)
    config = json.loads(files["config"].read_text())
    assert config["dataset_version"] == read_manifest(results).version
    assert (config["name"], config["registry_name"], config["seed"]) == ("mine", registry_name, 1)
    assert config["params"]["n_components"] == 4
    assert len(files["genes"].read_text().splitlines()) == (28 if registry_name == "pca" else 0)
    for path in files.values():
        about = json.loads(sidecar(path).read_text())
        assert (about["stage"], about["seed"]) == ("train", 1)
    assert not (tmp_path / "m" / "resume").exists()


@pytest.mark.parametrize("registry_name", ["pca", "image"])
def test_same_seed_same_bytes_for_any_threads(results, tmp_path, registry_name):
    one = _train(results, tmp_path / "a", registry_name, threads=1)
    two = _train(results, tmp_path / "b", registry_name, threads=2)
    for option in NAMES:
        assert one[option].read_bytes() == two[option].read_bytes()


def test_shards_on_scratch_give_the_same_bytes(results, tmp_path):
    plain = _train(results, tmp_path / "a", "image")
    staged = _train(results, tmp_path / "b", "image", scratch=tmp_path / "scratch")
    assert len(list((tmp_path / "scratch").rglob("*.lmdb"))) == 2
    for option in NAMES:
        assert plain[option].read_bytes() == staged[option].read_bytes()


def test_test_labels_are_never_seen(results, tmp_path):
    before = _train(results, tmp_path / "a")
    other = Path(shutil.copytree(results, tmp_path / "other"))
    path = other / "slides" / "s1" / "cells.parquet"
    cells = pd.read_parquet(path)
    split = pd.read_parquet(other / "dataset" / "splits" / "s1.parquet")["split"]
    is_test = (split == "test").to_numpy()
    labels = cells["label_type"].to_numpy(dtype=object)
    shuffled = labels.copy()
    shuffled[is_test] = np.random.default_rng(0).permutation(labels[is_test])
    assert (shuffled[is_test] != labels[is_test]).any()
    cells.assign(label_type=shuffled).to_parquet(path, index=False)
    run_seal(other, SLIDES)
    after = _train(other, tmp_path / "b")
    assert read_manifest(other).version != read_manifest(results).version
    for option in ("weights", "genes", "metrics"):
        assert before[option].read_bytes() == after[option].read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registry_name": "pcaa"}, "--registry-name: unknown model 'pcaa'; did you mean pca"),
        ({"params": '{"n_component": 4}'}, r"models.mine.params.n_component: unknown key; did you mean n_components"),
        ({"weights": Path("elsewhere") / "weights.safetensors"}, "the model's files lie apart"),
    ],
)
def test_wrong_options_are_one_sentence_and_nothing_is_written(results, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        _train(results, tmp_path / "m", **change)
    assert not (tmp_path / "m").exists()
