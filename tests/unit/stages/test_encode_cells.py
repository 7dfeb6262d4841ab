from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.core.seeds import ranked
from mistline.models.contract import Context, Needs
from mistline.models.diffusion.modes import READINGS, TOKENS
from mistline.stages import embed, encode_cells, train
from mistline.store.latents import COLUMNS, LatentReader
from mistline.store.manifest import read_manifest, write_manifest
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads
from mistline.train.source import open_source
from tests.unit.data.conftest import Slide, build

SPATIA = {"size": "tiny", "image_size": 16, "patch": 4, "train_batch": 16, "validate_every": 100, "val_batches": 1}
PARAMS = {
    "vae": {"size": "tiny", "image_size": 16, "widths": [8, 8], "steps": 3, "val_batches": 1},
    "spatia": {**SPATIA, "steps": 1},
    "genes_only": {**SPATIA, "steps": 1, "preset": "gene_only"},
}
CAPS = {"train": 40, "val": 5, "test": 1000, "batch_size": 50}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A sealed dataset with an autoencoder and two runs of spatia in models/<name>."""
    slides = [Slide("s1", "d1", n=120), Slide("s2", "d2", n=60)]
    root = build(tmp_path_factory.mktemp("encode") / "results", slides)
    for name, params in PARAMS.items():
        folder = root / "models" / name
        train.run(
            dataset=root / "dataset" / "manifest.json",
            model=f"my-{name}",
            registry_name="vae" if name == "vae" else "spatia",
            config=folder / "config.json",
            weights=folder / "weights.safetensors",
            genes=folder / "genes.txt",
            metrics=folder / "metrics.jsonl",
            card=folder / "card.md",
            params=json.dumps(params),
            seed=1,
        )
    return root


def _encode(results: Path, folder: Path, slide: str = "s1", threads: int = 1, **changes) -> LatentReader:
    caps = {**CAPS, **{name: changes.pop(name) for name in CAPS if name in changes}}
    files = {"autoencoder": "vae", "condition": "spatia", **changes}
    encode_cells.run(
        manifest=results / "dataset" / "manifest.json",
        slide=slide,
        **{name: results / "models" / of / "config.json" for name, of in files.items()},
        latents=folder,
        params=json.dumps(caps),
        threads=threads,
    )
    return LatentReader(folder)


@pytest.fixture(scope="module")
def encoded(results, tmp_path_factory) -> LatentReader:
    return _encode(results, tmp_path_factory.mktemp("latents") / "s1")


def test_which_cells_and_where_they_lie(results, encoded):
    cells = pd.read_parquet(results / "slides/s1/cells.parquet")
    cells["split"] = pd.read_parquet(results / "dataset/splits/s1.parquet")["split"].to_numpy()
    expected = []
    for split in ("train", "val", "test"):
        ids = cells["cell_id"][cells["split"] == split].tolist()
        expected += [ids[i] for i in ranked(ids, 0, "generation", "s1")[: CAPS[split]]]
    found = encoded.cells
    assert tuple(found.columns) == COLUMNS
    assert sorted(found["cell_id"]) == sorted(expected)
    assert found["split"].value_counts()["train"] == 40
    own = cells.iloc[found["row"]].reset_index(drop=True)
    for name in ("cell_id", "split", "x_um", "y_um"):
        np.testing.assert_array_equal(found[name], own[name].astype(found[name].dtype))
    assert set(zip(found["slide"], found["donor"], strict=True)) == {("s1", "d1")}


def test_latents_are_those_of_the_images(results, encoded):
    model = load(results / "models/vae/config.json").model
    source = open_source(results / "dataset/manifest.json", slides=("s1",))
    images = torch.cat([batch.image for batch in source.batches(Needs(image_size=16, batch_size=100))])
    mean, std = model.encode(images[encoded.cells["row"].to_numpy()])
    found = encoded.read(range(len(encoded)))
    assert encoded.latent_shape == model.latent_shape == (4, 8, 8)
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.std, std, atol=1e-5)
    train_cells = (encoded.cells["split"] == "train").to_numpy()
    spread = found.mean[train_cells].var((0, 2, 3)) + np.square(found.std[train_cells]).mean((0, 2, 3))
    assert (np.abs(np.log(spread)) < 1).all()  # three steps old


def test_tokens_are_the_embeddings_of_both_readings(results, encoded, tmp_path):
    files = tmp_path / "s1.parquet", tmp_path / "s1.h5ad"
    config, manifest = results / "models/spatia/config.json", results / "dataset/manifest.json"
    embed.run(dataset=manifest, model_config=config, slide="s1", embedding=files[0], h5ad=files[1])
    whole = anndata.read_h5ad(files[1])
    rows, found = encoded.cells["row"].to_numpy(), encoded.read(range(len(encoded))).tokens
    assert encoded.origin.present == ((True,) * 4,) * 2
    for place, token in enumerate(TOKENS):
        np.testing.assert_array_equal(found[:, 0, place], (whole.X if token == "z" else whole.obsm[token])[rows])
    differ = np.abs(found[:, 0] - found[:, 1]).max((0, 2))
    assert (differ > 1e-3)[[0, 2, 3]].all()
    model = load(config).model
    other = type(model).restore(model.params.model_copy(update={"embed_from": "genes"}), model.arrays(), model.genes)
    source = open_source(manifest, slides=("s1",))
    z = np.concatenate([block.z for block in other.embed(source, Context(1, "cpu", 1, tmp_path / "resume"))])
    np.testing.assert_array_equal(found[:, 1, 0], z[rows])


def test_no_pixel_reaches_the_reading_of_genes(results, tmp_path):
    source = open_source(results / "dataset/manifest.json", slides=("s1",))
    model = load(results / "models/spatia/config.json").model

    class Asked:
        def __getattr__(self, name):
            return getattr(source, name)

        def batches(self, needs, *args, **kwargs):
            assert needs.image_size is None
            assert not any(size for _, size in needs.context)
            return source.batches(needs, *args, **kwargs)

    context = Context(1, "cpu", 1, tmp_path / "resume")
    assert sum(len(block.cell_id) for block in model.embed_as(Asked(), context, "genes")) == source.count()
    with pytest.raises(AssertionError):
        next(model.embed_as(Asked(), context, "all"))


def test_same_bytes_whatever_the_threads_and_the_batches(results, encoded, tmp_path):
    _encode(results, tmp_path / "s1", threads=2, batch_size=7)
    assert hash_file(tmp_path / "s1") == hash_file(encoded.folder)
    assert not (tmp_path / "resume").exists()


def test_a_run_without_images_gives_one_reading(results, tmp_path):
    reader = _encode(results, tmp_path / "s2", slide="s2", condition="genes_only", train=3)
    assert reader.origin.present == ((False,) * 4, (True, True, False, False))
    tokens = reader.read([0, 1]).tokens
    given = (tokens != 0).any((0, 3))
    assert given.tolist() == [list(reading) for reading in reader.origin.present]
    assert (len(READINGS), len(TOKENS)) == tokens.shape[1:3]


def test_what_does_not_belong_together_is_refused(results, tmp_path):
    with pytest.raises(ConfigError, match=r"spatia/config.json: a run of spatia; name a run of vae"):
        _encode(results, tmp_path / "s1", autoencoder="spatia")
    with pytest.raises(ConfigError, match="unknown slide 's11'; did you mean s1"):
        _encode(results, tmp_path / "s1", slide="s11")
    other = Path(shutil.copytree(results, tmp_path / "other"))
    manifest = other / "dataset" / "manifest.json"
    content = {key: value for key, value in read_manifest(manifest).content.items() if key != "version"}
    write_manifest(manifest, {**content, "note": "sealed anew"})
    with pytest.raises(InputError, match=r"vae/config.json: trained on dataset version \w{12}, this one is \w{12}"):
        _encode(other, tmp_path / "s1")
    write_manifest(manifest, {**content, "kind": "tables"})
    with pytest.raises(InputError, match="its slides are tables, and generators draw images of cells"):
        _encode(other, tmp_path / "s1")
    assert not (tmp_path / "s1").exists()
