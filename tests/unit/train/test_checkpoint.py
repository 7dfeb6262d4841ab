from __future__ import annotations

import json

import numpy as np
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.models.contract import Context
from mistline.models.pca.params import Params
from mistline.train.checkpoint import Identity, ModelFiles, load, save
from mistline.train.run import train

CONTEXT = Context(0, "cpu", 1, None)


@pytest.fixture
def files(tmp_path) -> ModelFiles:
    names = ("config.json", "weights.safetensors", "genes.txt", "metrics.jsonl", "card.md")
    return ModelFiles(*(tmp_path / "mödel 1" / name for name in names))


@pytest.fixture
def saved(files, memory_source) -> ModelFiles:
    params = Params(n_components=4)
    trained = train("mistline.models.pca", params, memory_source(), memory_source(n=7), CONTEXT)
    save(files, Identity("mine", "pca", params.model_dump(mode="json"), 0, "v1"), trained, {"train cells": 120})
    return files


def test_comes_back_as_it_was(saved, memory_source):
    found = load(saved.config)
    assert found.identity == Identity("mine", "pca", Params(n_components=4).model_dump(mode="json"), 0, "v1")
    assert found.model.genes == memory_source().common_genes
    z = np.concatenate([block.z for block in found.model.embed(memory_source(), CONTEXT)])
    assert z.shape == (120, 4)


def test_files_are_plain(saved):
    assert len(saved.genes.read_text().splitlines()) == 18
    assert json.loads(saved.metrics.read_text())["n_train"] == 120
    assert "train cells: 120" in saved.card.read_text()
    assert json.loads(saved.config.read_text())["weights_sha256"] == load(saved.config).weights_sha256


def test_same_model_same_bytes(saved, memory_source):
    before = {path: path.read_bytes() for path in saved.config.parent.iterdir()}
    params = Params(n_components=4)
    trained = train("mistline.models.pca", params, memory_source(), memory_source(n=7), CONTEXT)
    save(saved, Identity("mine", "pca", params.model_dump(mode="json"), 0, "v1"), trained, {"train cells": 120})
    assert {path: path.read_bytes() for path in saved.config.parent.iterdir()} == before


def test_other_weights_are_refused(saved):
    data = bytearray(saved.weights.read_bytes())
    data[-1] ^= 1
    saved.weights.write_bytes(data)
    with pytest.raises(InputError, match=r"weights.safetensors: not the file that config.json was written with"):
        load(saved.config)


def test_missing_genes_are_refused(saved):
    saved.genes.unlink()
    with pytest.raises(InputError, match=r"genes.txt: no such file"):
        load(saved.config)


def test_another_json_is_refused(saved):
    saved.config.write_text('{"model": 1}')
    with pytest.raises(InputError, match="not the config of a trained model"):
        load(saved.config)


def test_a_model_that_is_no_longer_registered(saved):
    values = json.loads(saved.config.read_text())
    saved.config.write_text(json.dumps(values | {"registry_name": "pcaa"}))
    with pytest.raises(ConfigError, match="unknown model 'pcaa'; did you mean pca"):
        load(saved.config)
