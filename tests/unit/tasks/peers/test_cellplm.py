"""CellPLM's script, with a stand-in for its package: what it gives that and what it makes of the answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from mistline.tasks.peers.exchange import Cells, embedding_of, read_result, write_cells
from mistline.tasks.peers.run import script

GENES = ["ENSG1.4", "ENSG2", "ENSG3"]


class Pipeline:
    """Loads as the authors' does: one name for both files, a state dict under its key, no device given."""

    def __init__(self, pretrain_prefix, pretrain_directory):
        config = json.loads(Path(pretrain_directory, f"{pretrain_prefix}.config.json").read_text())
        stored = torch.load(f"{pretrain_directory}/{pretrain_prefix}.best.ckpt")
        self.weight = stored["model_state_dict"]["weight"]
        self.model = SimpleNamespace(gene_set=set(config["gene_list"]))

    def predict(self, adata, inference_config, ensembl_auto_conversion, device):
        assert inference_config == {"batch_size": 7}
        assert not ensembl_auto_conversion
        known = [name for name in adata.var_names if name in self.model.gene_set]
        return torch.from_numpy(np.asarray(adata[:, known].X.todense())) @ self.weight


@pytest.fixture
def method(monkeypatch):
    for name in ("CellPLM", "CellPLM.pipeline", "CellPLM.pipeline.cell_embedding"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["CellPLM.pipeline.cell_embedding"].CellEmbeddingPipeline = Pipeline
    spec = importlib.util.spec_from_file_location("run_cellplm", script("cellplm"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(folder, genes, values="counts"):
    torch.save({"model_state_dict": {"weight": torch.ones(2, 4)}, "epoch": 3}, folder / "any.ckpt")
    (folder / "any.json").write_text(json.dumps({"gene_list": ["ENSG1", "ENSG3", "ENSG9"]}))
    counts = np.array([[1, 5, 2], [0, 3, 0]])
    given = counts if values == "counts" else np.log1p(counts)
    write_cells(folder / "slide.h5ad", Cells(["a", "b"], genes, sparse.csr_matrix(given), values))
    options = {"batch_size": 7, "weights": str(folder / "any.ckpt"), "config": str(folder / "any.json")}
    return {"options": options, "seed": 1, "threads": torch.get_num_threads()}


@pytest.mark.parametrize("values", ["counts", "log"])
def test_counts_of_the_genes_it_knows_become_its_embedding(method, tmp_path, values):
    method.run(tmp_path, job(tmp_path, GENES, values))
    rows = embedding_of(read_result(tmp_path / "result.npz"), ["b", "a"])
    np.testing.assert_allclose(rows, [[0] * 4, [3] * 4], atol=1e-5)


def test_genes_by_symbol_end_it_with_a_sentence(method, tmp_path):
    with pytest.raises(SystemExit, match="none of the slide's genes is known to CellPLM"):
        method.run(tmp_path, job(tmp_path, ["A", "B", "C"]))
