from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import InputError
from mistline.core.provenance import sidecar
from mistline.infer import fillers
from mistline.infer.requantise import profiles_of
from mistline.mist.metacells import read_vocabulary
from mistline.models.contract import Needs
from mistline.models.gest.reading import Slide as Seen
from mistline.models.gest.windows import Cells
from mistline.stages import perturb
from mistline.store.manifest import read_manifest
from mistline.store.perturbed import read_perturbed
from mistline.train.source import open_source
from tests.unit.data.conftest import Slide, build

RULE = {"activated": ["GENE1"], "radius_um": 4, "ring_um": 5, "n_rois": 2, "least_cells": 1}  # slides of some 110 um


class Model:
    """Says that all meta-cells are as likely."""

    window_um, is_quantised = 20.0, True
    net = torch.nn.Linear(1, 1)

    def __init__(self, results) -> None:
        vocabulary = read_vocabulary(results / "dataset" / "metacells.h5ad")
        self.genes, self.expression = tuple(vocabulary.genes.gene_ids.tolist()), vocabulary.c_expr

    def entered(self, told):
        return told.argmax(axis=1)

    def cells_of(self, source):
        (batch,) = source.batches(Needs(batch_size=10**6))
        return Seen(batch.record_id, Cells(batch.xy_um.numpy(), batch.metacell.numpy()))

    def tell(self, seen_xy_um, seen_metacell, target_xy_um):
        k = len(self.expression)
        return np.full((len(target_xy_um), k), 1 / k)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return build(tmp_path_factory.mktemp("perturb") / "results", [Slide("s1", "d1")])


@pytest.fixture
def run(results, tmp_path, monkeypatch):
    manifest = results / "dataset" / "manifest.json"
    (tmp_path / "config.json").write_text("{}")
    told = {"name": "cells", "registry_name": "pca", "seed": 1, "dataset_version": read_manifest(manifest).version}

    def run(model=None, **identity):
        found = SimpleNamespace(
            identity=SimpleNamespace(**{**told, **identity}), model=model or Model(results), weights_sha256="w" * 64
        )
        monkeypatch.setattr(fillers, "load", lambda config: found)
        perturb.run(manifest, tmp_path / "config.json", tmp_path / "perturbed.parquet", json.dumps(RULE))
        return tmp_path / "perturbed.parquet"

    return run


def test_rings_are_generated_from_unchanged_and_changed_circles(results, run):
    path = run()
    found = read_perturbed(path)
    assert (found.origin.model, found.origin.seed, found.is_quantised) == ("cells", 1, True)
    assert set(found.slide) == {"s1"}
    assert found.symbols[1] == f"GENE{int(found.genes[1][4:])}"
    split = pd.read_parquet(results / "dataset" / "splits" / "s1.parquet").set_index("cell_id")["split"]
    assert set(split[found.cell_id]) == {"test"}
    keys = set(zip(found.variant.tolist(), found.sigma.tolist(), strict=True))
    changes = {("perturbed", s) for s in (0.25, 0.5, 1)} | {("random_genes", 0.5), ("elsewhere", 0.5)}
    assert keys == {("control", 0), *changes}
    assert any(own["share"] > 0 for own in found.about["share_changed"])
    about = json.loads(sidecar(path).read_text())
    assert (about["stage"], about["params"]["activated"]) == ("perturb", ["GENE1"])


def test_unchanged_cells_are_seen_as_the_dataset_has_them(results):
    source = open_source(results / "dataset" / "manifest.json", slides=("s1",))
    profiles = profiles_of(Model(results), source, lambda: read_vocabulary(results / "dataset" / "metacells.h5ad"))
    for batch in source.batches(Needs(genes="dense")):
        np.testing.assert_array_equal(profiles.content(profiles.of(batch)), batch.metacell.numpy())


def test_bad_input_is_one_sentence(run, tmp_path):
    with pytest.raises(InputError, match="trained on dataset version other, this one is"):
        run(dataset_version="other")
    with pytest.raises(InputError, match="a pca, which cannot fill unseen places"):
        run(model=SimpleNamespace(expression=1))
    assert not (tmp_path / "perturbed.parquet").exists()
