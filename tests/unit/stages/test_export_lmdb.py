from __future__ import annotations

import json

import lmdb
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.export.published_lmdb import Resizer
from mistline.stages import export_lmdb
from mistline.store.manifest import read_manifest
from mistline.store.reader import ShardReader
from tests.unit.data.conftest import build


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return build(tmp_path_factory.mktemp("sealed") / "results")


def images(path):
    """Read as the published loader does: one file, raw bytes, 256 x 256."""
    env = lmdb.open(str(path), readonly=True, lock=False, subdir=False)
    with env.begin() as transaction:
        found = {
            key.decode(): np.frombuffer(value, dtype=np.uint8).reshape(256, 256).copy()
            for key, value in transaction.cursor()
        }
    env.close()
    return found


def test_every_cell_of_every_slide_is_there_under_its_key(sealed, tmp_path):
    export_lmdb.run(dataset=sealed, out=tmp_path / "all.lmdb")
    found, resize = images(tmp_path / "all.lmdb"), Resizer()
    expected = {}
    for slide in ("s1", "s2"):
        folder = sealed / "slides" / slide
        reader = ShardReader(folder / "shards" / "cell")
        for key, cell_id in enumerate(pd.read_parquet(folder / "cells.parquet")["cell_id"]):
            expected[f"{slide}/{cell_id}"] = resize(reader[key].image[0]).copy()
    assert set(found) == set(expected)
    assert all((found[key] == expected[key]).all() for key in expected)
    noted = json.loads((tmp_path / "all.lmdb.meta.json").read_text())
    assert noted["params"] == {"slides": ["s1", "s2"], "scale": "cell", "channel": "DAPI"}


def test_tiles_of_one_slide_have_the_published_keys(sealed, tmp_path):
    export_lmdb.run(dataset=sealed / "dataset" / "manifest.json", out=tmp_path / "n.lmdb", slide=["s2"], scale="niche")
    index = pd.read_parquet(sealed / "slides" / "s2" / "shards" / "niche.parquet")
    expected = {f"s2/grid_{row}_{column}_32_256" for row, column in zip(index["row"], index["col"], strict=True)}
    assert set(images(tmp_path / "n.lmdb")) == expected
    assert len(expected) == read_manifest(sealed).slides["s2"]["scales"]["niche"]["records"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"slide": ["s3"]}, "--slide: unknown s3; choose from s1, s2"),
        ({"scale": "tissue"}, "--scale: unknown tissue; choose from cell, niche, region"),
        ({"channel": "18S"}, "--channel: unknown 18S; choose from DAPI"),
    ],
)
def test_what_the_dataset_lacks_is_an_error(sealed, tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        export_lmdb.run(dataset=sealed, out=tmp_path / "x.lmdb", **options)
    assert not list(tmp_path.iterdir())


def test_without_a_sealed_dataset_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json here"):
        export_lmdb.run(dataset=tmp_path, out=tmp_path / "x.lmdb")
