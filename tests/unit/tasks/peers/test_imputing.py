"""Scripts of methods that impute genes, with stand-ins for their packages: what they give these and what comes back."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mistline.models.peer.params import METHODS
from mistline.tasks.peers.exchange import imputed_of, read_result, write_view
from mistline.tasks.peers.run import script
from tests.unit.models.paired import paired

VIEW = paired(n=6, m=9, n_genes=4, n_wanted=2)[0]


def load(monkeypatch, name, package, **members):
    stand_in = ModuleType(package)
    vars(stand_in).update(members)
    monkeypatch.setitem(sys.modules, package, stand_in)
    spec = importlib.util.spec_from_file_location(f"run_{name}", script(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(name, **options):
    return {"options": {**METHODS[name].options, **options}, "seed": 5, "threads": 1}


def found(folder):
    return imputed_of(read_result(folder / "result.npz"), VIEW.cell_id, VIEW.wanted)


def dealt(n_single, n_cells):
    """Return [m, n]: each single cell mapped on one cell, in turn."""
    return np.eye(n_cells)[np.arange(n_single) % n_cells]


@pytest.fixture
def tangram(monkeypatch):
    def prepared(single, cells):
        assert list(single.var_names) == list(cells.var_names) == ["g0", "g1", "g2", "g3"]

    def mapped(single, cells, **options):
        assert (options["mode"], options["num_epochs"], options["random_state"]) == ("cells", 7, 5)
        assert options["density_prior"] == "rna_count_based"
        assert single.X.toarray().shape == (single.n_obs, 4)
        return SimpleNamespace(X=dealt(single.n_obs, cells.n_obs))

    return load(monkeypatch, "tangram", "tangram", pp_adatas=prepared, map_cells_to_space=mapped)


def test_tangram_projects_wanted_genes_by_its_map(tangram, tmp_path):
    write_view(tmp_path, VIEW)
    tangram.run(tmp_path, job("tangram", epochs=7))
    expected = dealt(9, 6).T @ VIEW.wanted_reference * 6 / 9
    np.testing.assert_allclose(found(tmp_path), expected, rtol=1e-5)


def test_tangram_draws_single_cells_where_there_are_more(tangram, tmp_path):
    write_view(tmp_path, VIEW)
    cells, single, wanted = tangram.prepare(tmp_path, 4, 0)
    assert (cells.n_obs, single.n_obs, wanted.shape) == (6, 4, (4, 2))
    rows = single.obs_names.astype(int).to_numpy()
    np.testing.assert_array_equal(wanted, VIEW.wanted_reference[rows])
    np.testing.assert_array_equal(single.X.toarray(), VIEW.reference[rows])


class Gimvi:
    """Decodes shares that are known, for the cells it was trained on."""

    set_up = 0

    @classmethod
    def setup_anndata(cls, cells):
        cls.set_up += 1
        assert cells.X.dtype == np.float32
        assert (cells.X.sum(axis=1) > 0).all()

    def __init__(self, single, cells, n_latent):
        assert (list(single.var_names), n_latent) == ([*VIEW.genes, *VIEW.wanted], 10)
        assert list(cells.var_names) == list(VIEW.genes)
        self.n = (single.n_obs, cells.n_obs)

    def train(self, max_epochs, batch_size, enable_progress_bar):
        assert (self.set_up, max_epochs, batch_size) == (2, 3, 128)

    def get_imputed_values(self, normalized):
        assert normalized
        return [None, np.tile([0.1, 0.1, 0.1, 0.2, 0.3, 0.2], (self.n[1], 1)) * (1 + np.arange(self.n[1]))[:, None]]


@pytest.fixture
def gimvi(monkeypatch):
    monkeypatch.setattr(Gimvi, "set_up", 0)
    settings, external = SimpleNamespace(), SimpleNamespace(GIMVI=Gimvi)
    return load(monkeypatch, "gimvi", "scvi", settings=settings, external=external)


def test_gimvi_is_trained_on_counts_and_tells_on_the_scale_of_open_genes(gimvi, tmp_path):
    counts = VIEW.counts.tolil()
    counts[2] = 0
    write_view(tmp_path, replace(VIEW, counts=counts.tocsr()))
    gimvi.run(tmp_path, job("gimvi", epochs=3))
    assert vars(gimvi.scvi.settings) == {"seed": 5, "num_threads": 1}
    np.testing.assert_allclose(found(tmp_path), np.tile(np.log1p([6e3, 4e3]), (6, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("missing", "sentence"), [("counts", "this slide holds none"), ("wanted_counts", "the reference holds none")]
)
def test_gimvi_without_counts_ends_with_a_sentence(gimvi, tmp_path, missing, sentence):
    write_view(tmp_path, replace(VIEW, **{missing: None}))
    with pytest.raises(SystemExit, match=f"gimVI models counts, and {sentence}"):
        gimvi.run(tmp_path, job("gimvi"))


class Tissue:
    """Carries each single cell to one place."""

    def __init__(self, dataset, locations):
        self.dataset, self.locations, self.done = dataset, locations, []
        assert dataset.X.shape == (9, 4)

    def setup_linear_cost(self, markers, insitu):
        assert markers.tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(insitu, VIEW.spatial)

    def setup_smooth_costs(self, num_neighbors_s, num_neighbors_t):
        assert num_neighbors_s == num_neighbors_t == 2

    def reconstruct(self, alpha_linear, epsilon):
        assert (alpha_linear, epsilon) == (0.8, 5e-3)
        self.gw = dealt(9, len(self.locations)) / 9


def test_novosparc_takes_the_mean_of_what_is_carried_to_a_place(monkeypatch, tmp_path):
    module = load(monkeypatch, "novosparc", "novosparc", cm=SimpleNamespace(Tissue=Tissue))
    write_view(tmp_path, VIEW)
    module.run(tmp_path, job("novosparc", neighbours=2))
    expected = [VIEW.wanted_reference[place::6].mean(axis=0) for place in range(6)]
    np.testing.assert_allclose(found(tmp_path), expected, rtol=1e-5)
