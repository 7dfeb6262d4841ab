from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mistline.core.errors import ConfigError, InputError
from mistline.core.provenance import sidecar
from mistline.core.seeds import ranked
from mistline.infer import generate as drawing
from mistline.models.diffusion.generator import MadeFor
from mistline.models.diffusion.model import Model
from mistline.models.diffusion.params import Params
from mistline.stages import generate
from mistline.store.pictures import Pictures, read_pictures
from mistline.train.checkpoint import Identity, ModelFiles, load, save
from mistline.train.latents import LatentSource
from mistline.train.run import Trained
from tests.unit.models.diffusion import synthetic
from tests.unit.stages.generators import SIDE, Encodings, build, files, write_autoencoder, write_latents

SAMPLING = {"steps": 3, "guidance": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    synthetic.micro(monkeypatch)


@pytest.fixture(scope="module")
def encodings(tmp_path_factory) -> Encodings:
    """Return encodings with a generator that learnt nothing, but answers to its conditions."""
    found = build(tmp_path_factory.mktemp("generate"))
    source = LatentSource({folder.name: folder for folder in found.latents}, "test")
    params = Params(**synthetic.SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        synthetic.micro(patch)
        torch.manual_seed(0)
        model = Model(params, MadeFor.of(source, ("recon", "gene2img")))
    for value in model.net.parameters():
        value.data += 0.05 * torch.randn_like(value)
    model.net.average.reset()
    identity = Identity("cells", "diffusion", params.model_dump(mode="json"), 1, found.version)
    save(ModelFiles(**files(found.root / "models" / "cells")), identity, Trained(model, ()), {})
    return found


def _draw(encodings: Encodings, out: Path, **changes) -> Pictures:
    values = {
        "manifest": encodings.manifest,
        "generator": encodings.root / "models" / "cells" / "config.json",
        "autoencoder": encodings.autoencoder,
        "latents": encodings.latents,
        "protocol": "gene2img",
        "pictures": out / "gene2img.safetensors",
        "n_cells": 4,
        "sampling": json.dumps(SAMPLING),
        "seed": 1,
    }
    generate.run(**{**values, **changes})
    return read_pictures(out / "gene2img.safetensors")


def test_tested_cells_are_drawn_dealt_and_decoded(encodings, tmp_path):
    found = _draw(encodings, tmp_path)
    assert found.slide.tolist() == ["s1"] * 3 + ["s2"] * 4
    ids = [f"s2-{i}" for i in range(9)]
    assert found.cell_id[3:].tolist() == [ids[i] for i in ranked(ids, 0, "generation", "s2")[:4]]
    assert {name: image.shape for name, image in found.images.items()} == dict.fromkeys(
        ("generated", "dealt", "autoencoder"), (7, 1, SIDE, SIDE)
    )
    assert (found.origin.model, found.origin.seed, found.origin.dataset_version) == ("cells", 1, encodings.version)
    assert found.about["protocol"] == "gene2img"
    assert (found.about["image_size"], found.about["channels"]) == (SIDE, ["DAPI"])
    assert found.about["seconds_per_image"] > 0
    assert found.about["sampling"]["steps"] == 3
    about = json.loads(sidecar(tmp_path / "gene2img.safetensors").read_text())
    assert about["params"]["n_cells"] == 4
    own = LatentSource({folder.name: folder for folder in encodings.latents}, "test")
    rows = drawing.tested(own.cells, 4)
    decoded = load(encodings.autoencoder).model.decode(own.read(rows).mean).numpy()
    np.testing.assert_array_equal(found.images["autoencoder"], decoded)


def test_same_seed_same_images_and_dealt_keeps_the_noise(encodings, tmp_path, monkeypatch):
    found, again = _draw(encodings, tmp_path / "a"), _draw(encodings, tmp_path / "b")
    for name, images in found.images.items():
        np.testing.assert_array_equal(images, again.images[name])
    assert (found.images["generated"] != found.images["dealt"]).any()
    monkeypatch.setattr(drawing, "dealt", lambda n, seed: np.arange(n))
    same = _draw(encodings, tmp_path / "c", sampling=json.dumps({**SAMPLING, "batch_size": 2}))
    np.testing.assert_array_equal(same.images["generated"], same.images["dealt"])
    assert np.abs(same.images["generated"].astype(int) - found.images["generated"]).max() <= 1


def test_latents_of_another_autoencoder_are_refused(encodings, tmp_path):
    write_autoencoder(tmp_path / "vae", encodings.version, seed=1)
    other = tmp_path / "vae" / "config.json"
    with pytest.raises(InputError, match="another autoencoder is to decode its latents"):
        _draw(encodings, tmp_path, autoencoder=other)
    write_latents(tmp_path / "latents", encodings.origin(autoencoder_sha256=load(other).weights_sha256))
    with pytest.raises(InputError, match="latents of another autoencoder"):
        _draw(encodings, tmp_path, autoencoder=other, latents=[tmp_path / "latents" / "s2"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "context2img"}, "not trained for context2img; choose one of recon, gene2img"),
        ({"sampling": '{"guidance": -1}'}, "generation.sampling.guidance"),
        ({"sampling": '{"merge": {"ratio": 1.5}}'}, "generation.sampling.merge.ratio"),
        ({"pairs": [Path("s1.parquet")]}, "--pairs: this generator draws from noise"),
    ],
)
def test_wrong_options_are_one_sentence_and_nothing_is_written(encodings, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        _draw(encodings, tmp_path, **change)
    assert not list(tmp_path.iterdir())
