from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.config.holes import Holes
from mistline.core.errors import ConfigError, InputError
from mistline.core.provenance import sidecar
from mistline.graphs.holes import place_holes
from mistline.infer import fillers
from mistline.models.contract import Needs
from mistline.models.gest.reading import Slide as Seen
from mistline.models.gest.windows import Cells
from mistline.stages import generate_cells
from mistline.store.filled import read_filled
from mistline.store.manifest import read_manifest
from tests.unit.data.conftest import Slide, build

RULE = {"n": 2, "least_cells": 3, "scale": 0.04}  # of slides of some 110 um
K = 24


class Model:
    """Says that all meta-cells are as likely, but the first."""

    window_um = 30.0
    genes = ("g0", "g1")
    expression = np.ones((K, 2), dtype=np.float32)
    net = torch.nn.Linear(1, 1)

    is_quantised = True

    def entered(self, told):
        return told.argmax(axis=1)

    def cells_of(self, source):
        (batch,) = source.batches(Needs(batch_size=10**6))
        return Seen(batch.record_id, Cells(batch.xy_um.numpy(), batch.metacell.numpy()))

    def tell(self, seen_xy_um, seen_metacell, target_xy_um):
        assert (seen_metacell >= 0).all()
        row = np.full(K, 1 / (K + 1))
        row[0] *= 2
        return np.tile(row, (len(target_xy_um), 1))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return build(tmp_path_factory.mktemp("generate") / "results", [Slide("s1", "d1"), Slide("s2", "d2")])


@pytest.fixture
def run(results, tmp_path, monkeypatch):
    manifest = results / "dataset" / "manifest.json"
    (tmp_path / "config.json").write_text("{}")
    told = {"name": "cells", "registry_name": "pca", "seed": 1, "dataset_version": read_manifest(manifest).version}

    def run(model=None, protocol="holes_300", **identity):
        found = SimpleNamespace(
            identity=SimpleNamespace(**{**told, **identity}), model=model or Model(), weights_sha256="w" * 64
        )
        monkeypatch.setattr(fillers, "load", lambda config: found)
        path = tmp_path / "filled.parquet"
        generate_cells.run(manifest, tmp_path / "config.json", protocol, path, json.dumps(RULE))
        return path

    return run


def test_the_squares_of_every_test_slide_are_filled(results, run):
    path = run()
    found = read_filled(path)
    assert (found.origin.model, found.origin.seed) == ("cells", 1)
    assert found.about["protocol"] == "holes_300"
    assert found.genes == ("g0", "g1")
    np.testing.assert_allclose(found.told[found.way == "generated"][:, 0], 2 / (K + 1), atol=1e-3)
    for slide in ("s1", "s2"):
        cells = pd.read_parquet(results / "slides" / slide / "cells.parquet")
        split = pd.read_parquet(results / "dataset" / "splits" / f"{slide}.parquet")["split"]
        ids = cells["cell_id"].tolist()
        holes = place_holes(
            ids, cells[["x_um", "y_um"]].to_numpy(), (split == "test").to_numpy(), 12, Holes(**RULE), slide
        )
        own = found.slide == slide
        told = set(zip(found.hole[own].tolist(), found.cell_id[own].tolist(), strict=True))
        assert told == {(hole.number, ids[row]) for hole in holes for row in hole.rows}
        metacell = pd.read_parquet(results / "slides" / slide / "metacells.parquet").set_index("cell_id")["metacell"]
        assert found.metacell[own].tolist() == metacell[found.cell_id[own]].tolist()
    about = json.loads(sidecar(path).read_text())
    assert (about["stage"], about["seed"], about["params"]["least_cells"]) == ("generate_cells", 1, 3)


def test_bad_input_is_one_sentence(run, tmp_path):
    with pytest.raises(ConfigError, match="unknown protocol 'holes_30'; choose one of holes_300"):
        run(protocol="holes_30")
    with pytest.raises(InputError, match="trained on dataset version other, this one is"):
        run(dataset_version="other")
    with pytest.raises(InputError, match="a pca, which cannot fill unseen places"):
        run(model=SimpleNamespace(expression=1))
    assert not (tmp_path / "filled.parquet").exists()
