"""The images of a slide's cells, and a predictor that is trained on them through the stage."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mistline.data import open_dataset
from mistline.stages import predict
from mistline.train.device import cpu_threads
from mistline.train.images import ShardImages
from tests.unit.data.conftest import build


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return build(tmp_path_factory.mktemp("images") / "results")


def test_images_are_those_of_the_cells_asked_for(results):
    manifest = results / "dataset" / "manifest.json"
    images = ShardImages(manifest, "s2")
    found = images(np.array([5, 0, 17]), 16)
    assert images.channels == open_dataset(manifest).manifest.channels
    assert found.shape == (3, len(images.channels), 16, 16)
    assert found.dtype == np.uint8
    cells = pd.read_parquet(results / "slides" / "s2" / "cells.parquet")
    with_ids = open_dataset(manifest, image_size=16, genes=None, slides=["s2"])
    for row, image in zip((5, 0, 17), found, strict=True):
        sample = with_ids[row]
        assert sample.record_id == cells["cell_id"][row]
        np.testing.assert_array_equal(image, sample.image)


def test_a_predictor_of_images_is_given_them(results, tmp_path):
    folder = results / "slides" / "s1"
    cells = pd.read_parquet(folder / "cells.parquet")
    label = next(name for name in cells if name.startswith("label_"))
    part = np.random.default_rng(0).choice(np.array(["train", "val", "test"]), len(cells), p=[0.5, 0.2, 0.3])
    part = np.where(cells[label].isna(), "unlabelled", part)
    folds = pd.DataFrame({"slide": "s1", "cell_id": cells["cell_id"], "0": part})
    folds.to_parquet(tmp_path / "folds.parquet")
    params = {"preset": "multimodal", "image": "trainable", "image_size": 16, "epochs": 2, "width": 16, "hidden": 16}
    with cpu_threads(1):
        predict.run(
            task="domains",
            protocol="random_spot",
            label=label.removeprefix("label_"),
            model="m",
            registry_name="fusion",
            seed=0,
            slide=["s1"],
            donor=["d1"],
            cells=[folder / "cells.parquet"],
            counts=[folder / "counts.h5ad"],
            folds=tmp_path / "folds.parquet",
            manifest=results / "dataset" / "manifest.json",
            predictions=tmp_path / "p.parquet",
            metrics=tmp_path / "p.jsonl",
            params=json.dumps(params),
        )
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert len(found) == np.isin(part, ["val", "test"]).sum()
