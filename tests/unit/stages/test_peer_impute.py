"""Closed genes imputed by a method in its own environment: what it is given, and what is left where it cannot run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import ConfigError
from mistline.stages import peer_impute
from mistline.store.absent import read_absent
from mistline.store.imputed import read_imputed
from mistline.tasks.peers.run import Spent
from tests.unit.tasks.peers import fake

GENES = ["A", "B", "C", "D", "E", "F"]
SLIDES = ("s1", "s2")
IMPUTE = """
import sys
from pathlib import Path
import h5py, numpy as np
folder = Path(sys.argv[1])
with h5py.File(folder / "spatial.h5ad") as cells, h5py.File(folder / "reference.h5ad") as single:
    ids = cells["obs/_index"].asstr()[:].astype(str)
    wanted = single["uns/wanted"].asstr()[:].astype(str)
rows = np.arange(len(ids))[:, None] + np.array([ord(name) for name in wanted])
np.savez(folder / "result.npz", cell=ids[::-1], genes=wanted[::-1], imputed=rows[::-1, ::-1].astype(float))
"""


@dataclass
class Inside:
    """In the place of a process: keeps what it is given, and takes as many seconds as it was begun before."""

    killed_at: int = 0

    def __post_init__(self):
        self.given, self.seeds = [], []

    def __call__(self, job, folder):
        cells, single = (anndata.read_h5ad(folder / name) for name in ("spatial.h5ad", "reference.h5ad"))
        self.given.append(([path.name for path in sorted(folder.iterdir())], *map(_content, (cells, single))))
        self.seeds.append(job.seed)
        if len(self.given) == self.killed_at:
            raise KeyboardInterrupt
        wanted = single.uns["wanted"].astype(str)
        zeros = np.zeros((cells.n_obs, len(wanted)))
        result = {"cell": cells.obs_names.to_numpy(dtype=str), "genes": wanted, "imputed": zeros}
        return result, Spent(len(self.given), 100.0 * len(self.given))


def _content(cells):
    return cells.var_names.tolist(), cells.X.tolist(), cells.layers["counts"].toarray().tolist()


def store(path, counts, **uns):
    ids = [f"c{number}" for number in range(len(counts))]
    var = pd.DataFrame({"symbol": [gene.lower() for gene in GENES]}, index=GENES)
    made = anndata.AnnData(sparse.csr_matrix(counts.astype(np.int32)), pd.DataFrame(index=ids), var, uns=uns)
    made.write_h5ad(path)
    return path


@pytest.fixture
def line(tmp_path, monkeypatch):
    """Two slides of five cells and six genes, in two folds, and a reference."""
    rng = np.random.default_rng(0)
    files = {"slide": list(SLIDES), "cells": [], "counts": []}
    for slide in SLIDES:
        files["counts"].append(store(tmp_path / f"{slide}.h5ad", rng.integers(1, 9, size=(5, 6)), values="counts"))
        files["cells"].append(tmp_path / f"{slide}.parquet")
        table = pd.DataFrame({"cell_id": [f"c{i}" for i in range(5)], "x_um": range(5), "y_um": 0.0})
        table.astype({"x_um": float}).to_parquet(files["cells"][-1])
    rows = [
        {"slide": slide, "gene": gene, "symbol": gene.lower(), "reference_gene": gene, "fold": fold,
         "part": "test" if place % 2 == fold else "val" if place > 3 else "train"}
        for slide in SLIDES for fold in (0, 1) for place, gene in enumerate(GENES)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "genes.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr(peer_impute, "read_manifest", lambda path: SimpleNamespace(version="v"))
    fake.method(monkeypatch, tmp_path, IMPUTE)
    return tmp_path, {
        "protocol": "gene_folds", "model": "carried", "seed": 3, **files,
        "environment": fake.environment(tmp_path), "status": fake.status(tmp_path / "status.json"),
        "reference": store(tmp_path / "reference.h5ad", rng.integers(1, 9, size=(7, 6)), values="counts"),
        "genes": tmp_path / "genes.parquet", "manifest": tmp_path / "manifest.json",
        "imputed": tmp_path / "out" / "carried.parquet", "params": json.dumps({"method": "novosparc"}),
    }  # fmt: skip


def test_all_folds_of_all_slides_are_one_file(line):
    _, options = line
    peer_impute.run(**options)
    found = read_imputed(options["imputed"])
    assert found.slide.tolist() == ["s1"] * 5 + ["s2"] * 5
    assert found.cell_id.tolist() == [f"c{i}" for i in range(5)] * 2
    assert (found.genes, found.symbols) == (tuple("ABCDEF"), tuple("abcdef"))
    assert found.fold.tolist() == [0, 1, 0, 1, 0, 1]
    expected = np.arange(5)[:, None] + np.array([ord(gene) for gene in GENES])
    np.testing.assert_array_equal(found.mean, np.tile(expected, (2, 1)))
    assert found.sd is None
    assert (found.origin.model, found.origin.seed, found.origin.dataset_version) == ("carried", 3, "v")
    runs = found.about["runs"]
    assert [(run["slide"], run["fold"]) for run in runs] == [("s1", 0), ("s1", 1), ("s2", 0), ("s2", 1)]
    assert all(run["seconds"] > 0 and run["peak_mb"] > 0 for run in runs)
    assert sorted(path.name for path in options["imputed"].parent.iterdir()) == [
        "carried.parquet", "carried.parquet.meta.json",
    ]  # fmt: skip


def test_a_killed_job_goes_on_with_the_fold_it_was_at_and_keeps_what_the_others_took(line, monkeypatch):
    _, options = line
    inside = Inside(killed_at=3)
    monkeypatch.setattr(peer_impute, "run_measured", inside)
    with pytest.raises(KeyboardInterrupt):
        peer_impute.run(**options)
    peer_impute.run(**options)
    assert len(inside.given) == 5  # two were finished, the third was begun twice
    runs = read_imputed(options["imputed"]).about["runs"]
    assert [(run["seconds"], run["peak_mb"]) for run in runs] == [(1, 100), (2, 200), (4, 400), (5, 500)]
    assert len(list(options["imputed"].parent.iterdir())) == 2


def test_no_file_of_a_run_holds_or_depends_on_what_was_measured_of_closed_genes(line, monkeypatch):
    _, options = line
    inside = Inside()
    monkeypatch.setattr(peer_impute, "run_measured", inside)
    peer_impute.run(**options)
    for path in options["counts"]:  # fold 0 tests A, C and E
        values = anndata.read_h5ad(path).X.toarray()
        values[:, [0, 2, 4]] = 77
        store(path, values, values="counts")
    peer_impute.run(**options)
    first, again = inside.given[:4], inside.given[4:]
    assert first[0][0] == ["reference.h5ad", "spatial.h5ad"]
    assert first[0][1][0] == ["B", "D", "F"]
    assert first[0] == again[0]
    assert first[1] != again[1]  # the other fold reads them
    assert first[2] == again[2]
    assert len(set(inside.seeds[:4])) == 4


def test_what_cannot_be_run_leaves_its_reason(line, monkeypatch):
    root, options = line
    peer_impute.run(**{**options, "status": fake.status(root / "no.json", "cannot be installed: no such package")})
    assert read_absent(options["imputed"]) == "cannot be installed: no such package"
    table = pd.read_parquet(options["cells"][1])
    table.assign(x_um=np.nan).to_parquet(options["cells"][1])
    peer_impute.run(**options)
    assert read_absent(options["imputed"]) == "slide s2 has no coordinates"
    fake.method(monkeypatch, root, "raise MemoryError('too large')")
    peer_impute.run(**options)
    assert read_absent(options["imputed"]) == "MemoryError: too large"


def test_unequal_options_are_an_error(line):
    with pytest.raises(ConfigError, match="peer-impute: the options of the slides are not equally many"):
        peer_impute.run(**{**line[1], "cells": []})


def test_more_cells_than_a_method_can_hold_are_not_given_to_it(line, monkeypatch):
    _, options = line
    usual = peer_impute.METHODS["novosparc"]
    monkeypatch.setitem(
        peer_impute.METHODS, "novosparc", type(usual)("genes", usual.reads, usual.options, 4, "it holds all pairs")
    )
    monkeypatch.setattr(peer_impute, "run_measured", Inside())
    peer_impute.run(**options)
    assert read_absent(options["imputed"]) == "it holds all pairs, and 5 of slide s1 are judged (at most 4)"
    peer_impute.run(**options, max_cells=4)
    assert len(read_imputed(options["imputed"]).cell_id) == 8
