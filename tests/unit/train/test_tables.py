from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.models.contract import Context, Needs
from mistline.models.pca.model import Model
from mistline.models.pca.params import Params
from mistline.train.source import open_source
from tests.unit.spots.written import GENES, table, write_h5ad, write_visium
from tests.unit.stages.tables import read, seal, split

DONORS = {"a": "d1", "v": "d2"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    read(root, "a", write_h5ad(root / "a.h5ad", table(300)[:, ::-1][:, :10].copy()), um_per_unit=10.0)
    read(root, "v", write_visium(root / "v"))
    split(root, DONORS)
    seal(root, DONORS)
    return root


def manifest(root):
    return root / "dataset/manifest.json"


def test_a_slide_comes_in_the_order_of_its_cells_with_its_counts(root):
    source = open_source(manifest(root), slides=("a",))
    counts = anndata.read_h5ad(root / "slides/a/counts.h5ad")
    assert source.genes == GENES
    assert source.common_genes == GENES[2:]
    assert (source.channels, source.values, source.count()) == ((), "counts", 300)
    batches = list(source.batches(Needs(genes="dense", batch_size=64)))
    assert [name for batch in batches for name in batch.record_id] == counts.obs_names.tolist()
    dense = np.concatenate([batch.genes.numpy() for batch in batches])
    assert np.array_equal(dense[:, 2:], counts.X.toarray())
    assert not dense[:, :2].any()
    measured = np.concatenate([batch.measured.numpy() for batch in batches])
    assert measured[:, 2:].all()
    assert not measured[:, :2].any()
    cells = pd.read_parquet(root / "slides/a/cells.parquet")
    assert batches[0].labels["layer"] == cells["label_layer"][:64].tolist()
    np.testing.assert_allclose(batches[0].xy_um, cells[["x_um", "y_um"]][:64], rtol=1e-6)


def test_shuffled_batches_hold_the_same_cells_with_the_same_counts(root):
    source = open_source(manifest(root), split="train")

    def rows(**options):
        found = {}
        for batch in source.batches(Needs(genes="dense", batch_size=50), **options):
            found |= dict(zip(batch.key, batch.genes.numpy().tolist(), strict=True))
        return found

    in_order, one, other = rows(), rows(shuffle=1), rows(shuffle=2)
    assert in_order == one == other
    assert list(in_order) != list(one) != list(other)
    assert list(one) == list(rows(shuffle=1))
    expected = {
        f"{slide}/{cell}"
        for slide in DONORS
        for cell, side in pd.read_parquet(root / f"dataset/splits/{slide}.parquet").itertuples(index=False)
        if side == "train"
    }
    assert set(in_order) == expected


def test_sparse_batches_are_the_dense_ones(root):
    source = open_source(manifest(root))
    dense, thin = (next(source.batches(Needs(genes=form, batch_size=400))) for form in ("dense", "sparse"))
    rebuilt = np.zeros_like(dense.genes.numpy())
    record = np.repeat(np.arange(400), np.diff(thin.gene_offset))
    rebuilt[record, thin.gene_index] = thin.gene_count
    assert np.array_equal(rebuilt, dense.genes)
    assert set(dense.slide) == {"a", "v"}
    assert dense.labels["layer"][-1] is None  # the second slide has no such column


def test_images_and_grids_are_refused(root):
    source = open_source(manifest(root))
    with pytest.raises(InputError, match="has no images"):
        next(source.batches(Needs(image_size=32)))
    with pytest.raises(InputError, match="no scale niche"):
        source.count("niche")


@pytest.mark.parametrize("values", ["counts", "normalised", "log"])
def test_pca_takes_values_as_they_are(tmp_path, values):
    data = table(200)
    totals = data.X.sum(axis=1).A1[:, None]
    steps = {"counts": data.X.toarray(), "normalised": data.X.toarray() / totals * np.median(totals)}
    steps["log"] = np.log1p(steps["normalised"])
    data.X = steps[values].astype(np.float32)
    read(tmp_path, "t", write_h5ad(tmp_path / "t.h5ad", data), um_per_unit=10.0, values=values)
    split(tmp_path, {"t": "d"}, test_share=0.05, val_share=0.0)
    seal(tmp_path, {"t": "d"})
    source = open_source(manifest(tmp_path))
    context = Context(0, "cpu", 1, tmp_path)
    model = Model.create(Params(n_components=3, max_fit_cells=200), source, context)
    list(model.fit(source, source, context))
    again = Model.restore(model.params, model.arrays(), model.genes)
    one, two = (np.concatenate([block.z for block in item.embed(source, context)]) for item in (model, again))
    assert np.array_equal(one, two)
    order = [name for batch in source.batches(Needs()) for name in batch.record_id]
    logged = pd.DataFrame(steps["log"], index=data.obs_names).loc[order].to_numpy()
    centred = logged - logged.mean(axis=0)
    best = np.linalg.svd(centred, compute_uv=False)[:3]
    np.testing.assert_allclose(np.linalg.norm(one - one.mean(axis=0), axis=0), best, rtol=1e-3)
