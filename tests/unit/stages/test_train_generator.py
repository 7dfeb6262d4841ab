from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import pytest

from mistline.core.errors import ConfigError, InputError, ResourceError
from mistline.core.provenance import sidecar
from mistline.models.diffusion.network import Network
from mistline.stages import train_generator
from mistline.train.checkpoint import load
from tests.unit.models.diffusion import synthetic
from tests.unit.stages.generators import Encodings, build, files, write_latents
from tests.unit.train.tiny import end

PARAMS = {**synthetic.SETTINGS, "steps": 6, "train_batch": 16, "validate_every": 3, "save_every": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    synthetic.micro(monkeypatch)


@pytest.fixture(scope="module")
def encodings(tmp_path_factory) -> Encodings:
    return build(tmp_path_factory.mktemp("train_generator"))


def _train(encodings: Encodings, out: Path, **changes) -> dict[str, Path]:
    written = files(out)
    values = {
        "manifest": encodings.manifest,
        "model": "cells",
        "registry_name": "diffusion",
        "latents": encodings.latents,
        "seed": 1,
        "params": json.dumps(PARAMS),
        **written,
    }
    train_generator.run(**{**values, **changes})
    return written


def test_five_files_with_their_origin_and_exact_after_an_interruption(encodings, tmp_path, monkeypatch):
    whole = _train(encodings, tmp_path / "a")
    about = json.loads(sidecar(whole["weights"]).read_text())
    assert (about["stage"], about["seed"]) == ("train_generator", 1)
    assert set(about["inputs"]) == {"dataset", "latents:s1", "latents:s2"}
    card = whole["card"].read_text()
    assert "train cells: 40" in card
    assert "draws: recon, gene2img, context2img" in card
    assert "val_loss" in whole["metrics"].read_text().splitlines()[0]
    found = load(whole["config"])
    assert (found.identity.registry_name, found.model.genes) == ("diffusion", ())
    assert found.model.made_for.condition_sha256 == encodings.condition_sha256

    update = Network.losses
    calls = iter(range(100))

    def stopped(self, inputs, draw):
        loss = update(self, inputs, draw)
        if self.training and next(calls) == 3:
            loss["loss"] = partial(end, signal.SIGTERM)(loss["loss"])
        return loss

    monkeypatch.setattr(Network, "losses", stopped)
    with pytest.raises(ResourceError, match="its state is saved"):
        _train(encodings, tmp_path / "b")
    monkeypatch.setattr(Network, "losses", update)
    again = _train(encodings, tmp_path / "b")
    for option, path in whole.items():
        assert path.read_bytes() == again[option].read_bytes()


def test_latents_of_another_dataset_are_refused(encodings, tmp_path):
    write_latents(tmp_path, encodings.origin(dataset_version="e" * 64))
    with pytest.raises(
        InputError, match=r"made from dataset version eeeeeeeeeeee, this one is .*run encode_cells again"
    ):
        _train(encodings, tmp_path / "m", latents=[tmp_path / "s1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registry_name": "diffusions"}, "unknown model 'diffusions'; did you mean diffusion"),
        ({"pairs": [Path("s1.parquet")]}, "--pairs: this generator draws from noise"),
        ({"params": "{}"}, "models.cells.params.condition"),
        ({"weights": Path("elsewhere") / "weights.safetensors"}, "the model's files lie apart"),
    ],
)
def test_wrong_options_are_one_sentence_and_nothing_is_written(encodings, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        _train(encodings, tmp_path / "m", **change)
    assert not (tmp_path / "m").exists()


def test_the_same_slide_twice_is_refused(encodings, tmp_path):
    with pytest.raises(ConfigError, match="--latents: not one folder for each slide"):
        _train(encodings, tmp_path / "m", latents=encodings.latents[:1] * 2)
