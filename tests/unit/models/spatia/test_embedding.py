"""What lies between the passes of embedding, and that nothing but the slide decides the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mistline.models.contract import Context
from mistline.models.spatia import network, rows
from mistline.models.spatia.gene_tokens import collate
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params
from mistline.models.spatia.rows import Rows
from mistline.train.device import cpu_threads


def _model(source, folder: Path, **values) -> Model:
    settings = {"gene_layers": 1, "image_layers": 1, "decoder_layers": 1, **values}
    return Model.create(Params(size="tiny", **settings), source, Context(0, "cpu", 1, folder))


def _embedded(model: Model, source, folder: Path, threads: int = 1) -> dict[str, np.ndarray]:
    blocks = list(model.embed(source, Context(0, "cpu", threads, folder)))
    found = {name: np.concatenate([block.parts[name] for block in blocks]) for name in blocks[0].parts}
    return {"z": np.concatenate([block.z for block in blocks]), **found}


def test_rows_keep_what_was_written_when_pages_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_HELD", 1)  # gives back after every access
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    given = Rows(tmp_path / "rows", 500, 3)
    turn = np.random.default_rng(1).permutation(500)
    given[turn[:200]] = values[turn[:200]]
    given[turn[200:]] = values[turn[200:]]
    np.testing.assert_array_equal(given[10:490], values[10:490])
    np.testing.assert_array_equal(given[turn], values[turn])


def test_rows_that_were_read_are_a_copy(tmp_path):
    given = Rows(tmp_path / "rows", 4, 2)
    given[0:4] = np.ones((4, 2), dtype=np.float32)
    given[0:2][:] = 5
    assert (given[0:4] == 1).all()


def test_giving_pages_back_changes_no_bit(source, tmp_path, monkeypatch):
    cells = source(150)
    model = _model(cells, tmp_path)
    one = _embedded(model, cells, tmp_path)
    monkeypatch.setattr(rows, "_HELD", 1)
    other = _embedded(model, cells, tmp_path)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_threads_change_no_bit(source, tmp_path):
    cells = source(150)
    model = _model(cells, tmp_path)
    found = []
    for threads in (1, 2):
        with cpu_threads(threads):
            found.append(_embedded(model, cells, tmp_path, threads))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_nothing_is_encoded_twice(source, tmp_path, monkeypatch):
    """Niches and regions are made of the cells' vectors, not of their genes and images again."""
    cells = source(150)
    model = _model(cells, tmp_path)
    seen = {"cell": 0, "niche": 0, "genes": 0}
    image, genes = model.net.image.forward, model.net.genes.forward

    def images(given, side_um, scale, keep=None):
        seen[scale] += len(given)
        return image(given, side_um, scale, keep)

    def tokens(given, **known):
        seen["genes"] += len(given.pad)
        return genes(given, **known)

    monkeypatch.setattr(model.net.image, "forward", images)
    monkeypatch.setattr(model.net.genes, "forward", tokens)
    _embedded(model, cells, tmp_path)
    assert seen == {"cell": 150, "niche": cells.count("niche"), "genes": 150}


def test_chunks_of_about_one_length_change_rounding_only(source, tmp_path, monkeypatch):
    cells = source(64)
    model = _model(cells, tmp_path)
    batch = model.prepare(next(iter(cells.batches(model.recipe(cells).needs))), "cpu")
    model.net.eval()
    tokens = collate(batch.cells.genes, 1000, draw=None)
    image = model.net.image(batch.cells.image, batch.cells.side_um, "cell")
    shown = [torch.rand(64, generator=torch.Generator().manual_seed(seed)) < 0.7 for seed in (0, 1)]
    found = []
    for chunks in (1, 8):
        monkeypatch.setattr(network, "_CHUNKS", chunks)
        for flags in ((None, None), (shown[0], None), (shown[0], shown[1] | ~shown[0])):
            one = model.net._cells(image, tokens, *flags)
            assert sum(len(part.rows) for part in one.genes) == (64 if flags[1] is None else int(flags[1].sum()))
            found.append((one.z, one.z_image, one.z_genes, one.image))
    torch.testing.assert_close(found[:3], found[3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [1, 2])
def test_slides_of_very_few_cells_are_embedded(n, source, tmp_path):
    cells = source(n)
    found = _embedded(_model(cells, tmp_path), cells, tmp_path)
    assert all(len(values) == n and np.isfinite(values).all() for values in found.values())


def test_a_batch_of_other_cells_changes_no_bit(source, tmp_path):
    """The encoders see groups of a fixed number, in the order of the source: a cell's own vector is of its group."""
    cells = source(200)
    model = _model(cells, tmp_path)
    found = [
        _embedded(
            Model.restore(model.params.model_copy(update={"batch_size": size}), model.arrays(), model.genes),
            cells,
            tmp_path,
        )
        for size in (7, 64, 4096)
    ]
    for other in found[1:]:
        assert all(torch.equal(torch.from_numpy(found[0][name]), torch.from_numpy(other[name])) for name in other)
