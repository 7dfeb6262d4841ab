from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mistline.cli import app
from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.stages import embed, train
from mistline.store.embeddings import read_embedding, read_origin
from mistline.store.manifest import read_manifest, write_manifest
from tests.unit.data.conftest import build


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A sealed dataset with a trained model in models/<name>."""
    root = build(tmp_path_factory.mktemp("embed") / "results")
    for name in ("pca", "image"):
        folder = root / "models" / name
        train.run(
            dataset=root / "dataset" / "manifest.json",
            model=f"my-{name}",
            registry_name=name,
            config=folder / "config.json",
            weights=folder / "weights.safetensors",
            genes=folder / "genes.txt",
            metrics=folder / "metrics.jsonl",
            card=folder / "card.md",
            params='{"n_components": 4}',
            seed=1,
        )
    return root


def _embed(results: Path, out: Path, name: str = "pca", slide: str = "s2", threads: int = 1) -> tuple[Path, Path]:
    files = out / f"{slide}.parquet", out / f"{slide}.h5ad"
    embed.run(
        dataset=results / "dataset" / "manifest.json",
        model_config=results / "models" / name / "config.json",
        slide=slide,
        embedding=files[0],
        h5ad=files[1],
        threads=threads,
    )
    return files


@pytest.mark.parametrize("name", ["pca", "image"])
def test_every_cell_in_order_with_its_origin(results, tmp_path, name):
    embedding, h5ad = _embed(results, tmp_path, name)
    cells = pd.read_parquet(results / "slides" / "s2" / "cells.parquet")
    ids, rows = read_embedding(embedding)
    assert list(ids) == list(cells["cell_id"])
    assert rows.shape == (len(cells), 4)
    origin = read_origin(embedding)
    assert (origin.model, origin.seed) == (f"my-{name}", 1)
    assert origin.dataset_version == read_manifest(results).version
    assert origin.model_sha256 == hash_file(results / "models" / name / "weights.safetensors")
    table = anndata.read_h5ad(h5ad)
    assert list(table.obs_names) == list(ids)
    np.testing.assert_array_equal(table.X, rows)


def test_same_bytes_for_any_threads(results, tmp_path):
    one, two = (_embed(results, tmp_path / str(threads), threads=threads) for threads in (1, 2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_scratch_may_come_from_the_environment(results, tmp_path):
    plain = _embed(results, tmp_path / "plain")
    files = tmp_path / "s2.parquet", tmp_path / "s2.h5ad"
    words = ["embed", "--dataset", results / "dataset/manifest.json", "--slide", "s2", "--embedding", files[0]]
    words += ["--h5ad", files[1], "--model-config", results / "models/pca/config.json"]
    done = CliRunner().invoke(app, list(map(str, words)), env={"MISTLINE_SCRATCH": str(tmp_path / "scratch")})
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "scratch").rglob("*.lmdb"))) == 1
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in plain]


def test_unknown_slide_names_the_nearest(results, tmp_path):
    with pytest.raises(ConfigError, match="unknown 's22'; did you mean s2"):
        _embed(results, tmp_path, slide="s22")


def test_a_model_of_another_dataset_is_refused(results, tmp_path):
    other = Path(shutil.copytree(results, tmp_path / "other"))
    manifest = other / "dataset" / "manifest.json"
    content = {key: value for key, value in read_manifest(manifest).content.items() if key != "version"}
    write_manifest(manifest, {**content, "note": "sealed anew"})
    with pytest.raises(InputError, match=r"config.json: trained on dataset version \w{12}, this one is \w{12}"):
        _embed(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
