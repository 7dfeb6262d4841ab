"""What every registered model must do; a new one is tested by its line in the registry."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from mistline.models import REGISTRY
from mistline.models.contract import Context
from mistline.train.device import cpu_threads
from mistline.train.run import train

# Judged by predictions, or nothing is trained, or trained in many steps: see their own folders.
OWN_TESTS = (
    *("fusion", "encoder", "gene_encoder", "peer", "spatia", "vae", "diffusion", "flow", "gest", "niche"),
    *("spadit", "stdiff", "spage", "stplus"),
)
EMBEDDERS = [package for name, package in REGISTRY.items() if name not in OWN_TESTS]
ALL = pytest.mark.parametrize("package", EMBEDDERS)


def _context(tmp_path: Path, seed: int = 0) -> Context:
    return Context(seed, "cpu", 1, tmp_path / "resume")


def _params(package: str, **values):
    return importlib.import_module(f"{package}.params").Params(**values)


def _embedded(model, source, context) -> np.ndarray:
    return np.concatenate([np.asarray(block.z) for block in model.embed(source, context)])


@ALL
def test_folder_says_what_it_is(package):
    folder = Path(importlib.import_module(package).__file__).parent
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {folder.name}\n")


@ALL
def test_every_cell_once_in_order(package, memory_source, tmp_path):
    source, context = memory_source(), _context(tmp_path)
    model = train(package, _params(package, n_components=5), source, memory_source(n=10), context).model
    blocks = list(model.embed(source, context))
    assert [cell for block in blocks for cell in block.cell_id] == [f"cell-{i}" for i in range(120)]
    z = np.concatenate([block.z for block in blocks])
    assert z.shape == (120, 5)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()


@ALL
def test_same_seed_same_bytes_whatever_the_threads(package, memory_source, tmp_path):
    found = []
    for threads in (1, 2):
        with cpu_threads(threads):
            trained = train(package, _params(package), memory_source(n=300), memory_source(n=10), _context(tmp_path))
        found.append({name: array.tobytes() for name, array in trained.model.arrays().items()})
    assert found[0] == found[1]


@ALL
def test_batch_size_does_not_matter(package, memory_source, tmp_path):
    source, context = memory_source(), _context(tmp_path)
    rows = []
    for batch_size in (7, 64):
        params = _params(package, batch_size=batch_size, n_components=4)
        rows.append(_embedded(train(package, params, source, source, context).model, source, context))
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-5)


@ALL
def test_embedding_is_the_same_to_the_bit_for_any_batch_size(package, memory_source, tmp_path):
    source, context = memory_source(), _context(tmp_path)
    model = train(package, _params(package), source, source, context).model
    rows = []
    for batch_size in (1, 11, 120):
        other = type(model).restore(_params(package, batch_size=batch_size), model.arrays(), model.genes)
        rows.append(_embedded(other, source, context))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


@ALL
def test_restored_model_embeds_the_same(package, memory_source, tmp_path):
    source, context = memory_source(), _context(tmp_path)
    params = _params(package, n_components=6)
    model = train(package, params, source, source, context).model
    again = type(model).restore(params, model.arrays(), model.genes)
    np.testing.assert_array_equal(_embedded(model, source, context), _embedded(again, source, context))


@ALL
def test_what_is_embedded_later_does_not_change_the_fit(package, memory_source, tmp_path):
    source, context = memory_source(), _context(tmp_path)
    model = train(package, _params(package), source, source, context).model
    before = {name: array.copy() for name, array in model.arrays().items()}
    _embedded(model, memory_source(n=40, seed=9), context)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@ALL
def test_planted_types_separate(package, memory_source, tmp_path):
    from sklearn.linear_model import LogisticRegression

    source, context = memory_source(n=240), _context(tmp_path)
    model = train(package, _params(package, n_components=5), source, source, context).model
    held_out = memory_source(n=90, seed=5)
    probe = LogisticRegression(max_iter=1000).fit(_embedded(model, source, context), source.kind)
    assert probe.score(_embedded(model, held_out, context), held_out.kind) > 0.95
