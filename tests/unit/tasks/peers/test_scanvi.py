"""scANVI's script, with a stand-in for its package: what it gives that and what it makes of the answer."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.models.peer.params import METHODS
from mistline.tasks.peers.exchange import Cells, probability_of, read_result, write_cells
from mistline.tasks.peers.run import script

COUNTS = np.array([[4, 0], [5, 1], [0, 0], [0, 6]])


class First:
    """Must be trained before it is begun with."""

    @staticmethod
    def setup_anndata(cells):
        assert cells.X.dtype == np.float32
        assert len(cells) == 3  # without the empty one

    def __init__(self, cells, n_latent, n_layers, gene_likelihood):
        assert (n_latent, n_layers, gene_likelihood) == (10, 1, "zinb")
        self.cells, self.epochs = cells, 0

    def train(self, max_epochs, enable_progress_bar):
        self.epochs = max_epochs


class Second:
    """Says the class of the training cell with the most alike counts, nearly; rows do not sum to 1."""

    @classmethod
    def from_scvi_model(cls, first, unlabeled_category, labels_key):
        found = cls()
        found.cells, found.epochs = first.cells, first.epochs
        found.none, found.label = unlabeled_category, first.cells.obs[labels_key].astype(str).to_numpy()
        return found

    def train(self, max_epochs, enable_progress_bar):
        assert (self.epochs, max_epochs) == (7, None)

    def predict(self, cells, soft):
        assert soft
        assert set(cells.obs["label"]) == {self.none}
        near = np.abs(cells.X.toarray()[:, None] - self.cells.X.toarray()[None]).sum(axis=2).argmin(axis=1)
        classes = sorted(set(self.label))
        rows = 1.8 * (self.label[near][:, None] == np.array(classes)) + 0.1
        return pd.DataFrame(rows, index=cells.obs_names, columns=classes)


@pytest.fixture
def method(monkeypatch):
    package = ModuleType("scvi")
    package.settings, package.model = SimpleNamespace(), SimpleNamespace(SCVI=First, SCANVI=Second)
    monkeypatch.setitem(sys.modules, "scvi", package)
    spec = importlib.util.spec_from_file_location("run_scanvi", script("scanvi"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(folder, values="counts"):
    label = ["b", "b", "a", "a"]
    write_cells(folder / "train.h5ad", Cells(list("stuv"), ["g", "h"], sparse.csr_matrix(COUNTS), values, label=label))
    write_cells(folder / "query.h5ad", Cells(["x", "y"], ["g", "h"], sparse.csr_matrix(COUNTS[[3, 0]]), values))
    return {"options": {**METHODS["scanvi"].options, "epochs": 7}, "seed": 5, "threads": 3}


def test_it_is_trained_on_labelled_counts_and_tells_shares(method, tmp_path):
    method.run(tmp_path, job(tmp_path))
    assert vars(method.scvi.settings) == {"seed": 5, "num_threads": 3}
    rows = probability_of(read_result(tmp_path / "result.npz"), ["y", "x"], ("a", "b", "c"))
    np.testing.assert_allclose(rows, [[0.05, 0.95, 0], [0.95, 0.05, 0]], atol=1e-6)


def test_values_that_are_no_counts_end_it_with_a_sentence(method, tmp_path):
    with pytest.raises(SystemExit, match="scANVI models counts, and these slides hold values that are log"):
        method.run(tmp_path, job(tmp_path, "log"))
