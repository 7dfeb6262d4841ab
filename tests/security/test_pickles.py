"""Files that would run code when they are read as a careless program reads them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import torch
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

from mistline.core.errors import InputError
from mistline.models.gene_encoder.vocabulary import _ForeignError, _Plain
from mistline.models.weights import read as read_weights
from mistline.tasks.peers.exchange import NotRunError, read_result
from tests.fuzz.subjects import REFERENCE
from tests.security.conftest import Evil


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_weights_that_hold_code(name: str, form: str, evil: Evil, canary: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if form == "pickle":
        path.write_bytes(pickle.dumps({"a": evil}))
    else:
        torch.save({"a": torch.zeros(1), "b": evil}, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError):
        read_weights(path)
    assert not canary.exists()


def test_a_vocabulary_that_holds_code(evil: Evil, canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "genes.pickle"
    path.write_bytes(pickle.dumps({"a": evil}))
    with path.open("rb") as stream, pytest.raises(_ForeignError):
        _Plain(stream).load()
    assert not canary.exists()


def test_results_of_a_peer_that_hold_code(evil: Evil, canary: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "result.npz", embedding=np.array([evil], dtype=object))
    with pytest.raises(NotRunError, match="ValueError"):
        read_result(tmp_path / "result.npz")
    assert not canary.exists()


@pytest.mark.parametrize("encoding", ["pickle", "array"])
def test_an_h5ad_that_holds_a_pickle(
    encoding: str, evil: Evil, canary: Path, tmp_path: Path, sentence: Callable[..., str]
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    anndata.AnnData(np.ones((3, 2), np.float32)).write_h5ad(folder / "reference.h5ad")
    with h5py.File(folder / "reference.h5ad", "r+") as file:
        del file["obs/_index"]
        file["obs/_index"] = np.array([np.void(pickle.dumps(evil))] * 3)
        file["obs/_index"].attrs.update({"encoding-type": encoding, "encoding-version": "0.1.0"})
    sentence(folder, REFERENCE)
    assert not canary.exists()


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"])
def test_a_config_with_a_tag_of_python(tag: str, canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"slides: !!python/{tag} ['touch {canary}']\n")
    with pytest.raises(WorkflowError, match="not valid"):
        load_configfile(str(path))
    assert not canary.exists()


@pytest.mark.xfail(
    strict=True, reason="Snakemake runs expressions of a config that sets __use_yte__, before the Snakefile is read"
)
def test_a_config_with_templates(canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"__use_yte__: true\nslides: ?__import__('os').system('touch \"{canary}\"')\n")
    load_configfile(str(path))
    assert not canary.exists()
