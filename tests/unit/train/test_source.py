from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.models.contract import Needs
from mistline.train import source as source_module
from mistline.train.source import DatasetSource
from tests.unit.data.conftest import build


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("source") / "results")


def _manifest(results: Path) -> Path:
    return results / "dataset" / "manifest.json"


def _ids(batches) -> list[str]:
    return [f"{slide}/{cell}" for batch in batches for slide, cell in zip(batch.slide, batch.record_id, strict=True)]


def test_a_slide_comes_in_the_order_of_its_cells(results):
    found = DatasetSource(_manifest(results), slides=("s2",))
    cells = pd.read_parquet(results / "slides" / "s2" / "cells.parquet")
    assert _ids(found.batches(Needs(batch_size=50))) == [f"s2/{cell}" for cell in cells["cell_id"]]
    assert found.count() == len(cells)


def test_a_split_holds_its_cells_only(results):
    expected = set()
    for slide in ("s1", "s2"):
        table = pd.read_parquet(results / "dataset" / "splits" / f"{slide}.parquet")
        expected |= {f"{slide}/{cell}" for cell in table.loc[table["split"] == "train", "cell_id"]}
    assert set(_ids(DatasetSource(_manifest(results), split="train").batches(Needs()))) == expected


def test_shuffled_order_is_the_seed_s_and_complete(results):
    found = DatasetSource(_manifest(results))
    one, two, other = (_ids(found.batches(Needs(batch_size=64), shuffle=seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert sorted(one) == sorted(_ids(found.batches(Needs())))


def test_batches_hold_what_was_asked_for(results):
    found = DatasetSource(_manifest(results))
    batch = next(found.batches(Needs(image_size=24, genes="dense", batch_size=8)))
    assert tuple(batch.image.shape) == (8, 1, 24, 24)
    assert tuple(batch.genes.shape) == (8, len(found.genes))
    bare = next(found.batches(Needs(batch_size=8)))
    assert (bare.image, bare.genes, bare.gene_index) == (None, None, None)
    assert next(found.batches(Needs(genes="sparse"))).gene_offset is not None


def test_common_genes_are_those_of_both_panels(results):
    found = DatasetSource(_manifest(results))
    assert found.channels == ("DAPI",)
    assert (len(found.genes), len(found.common_genes)) == (30, 28)
    assert set(found.common_genes) < set(found.genes)


def test_grid_scales_are_records_too(results):
    found = DatasetSource(_manifest(results), slides=("s1",))
    niches = _ids(found.batches(Needs(scale="niche", image_size=16)))
    assert len(niches) == found.count("niche") > 0
    assert all("_" in name for name in niches)


def test_workers_change_nothing(results, monkeypatch):
    monkeypatch.setattr(source_module, "_FEWEST_FOR_WORKERS", 1)
    needs = Needs(image_size=16, batch_size=100)
    rows = []
    for workers in (0, 2):
        batches = list(DatasetSource(_manifest(results), workers=workers).batches(needs, shuffle=3))
        rows.append((_ids(batches), np.concatenate([batch.image.numpy() for batch in batches])))
    assert rows[0][0] == rows[1][0]
    np.testing.assert_array_equal(rows[0][1], rows[1][1])


def test_scratch_holds_what_was_read_and_changes_no_batch(results, tmp_path):
    needs = Needs(image_size=16, genes="dense", batch_size=64)
    plain = list(DatasetSource(_manifest(results), split="val").batches(needs))
    source = DatasetSource(_manifest(results), split="val", scratch=tmp_path)
    assert list(tmp_path.rglob("*.lmdb")) == []
    staged = list(source.batches(needs))
    assert _ids(staged) == _ids(plain)
    for a, b in zip(staged, plain, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.genes, b.genes)
    copied = sorted(path.read_bytes() for path in tmp_path.rglob("*.lmdb"))
    assert copied == sorted(path.read_bytes() for path in results.glob("slides/*/shards/cell/*.lmdb"))


GROUPED = Needs(image_size=8, genes="sparse", batch_size=60, group="region", context=(("niche", 16),))


@pytest.mark.parametrize("needs", [Needs(batch_size=16), GROUPED])
@pytest.mark.parametrize("shuffle", [None, 4])
def test_an_epoch_goes_on_where_it_stopped(results, needs, shuffle):
    found = DatasetSource(_manifest(results))
    whole = [list(batch.key) for batch in found.batches(needs, shuffle)]
    assert found.n_batches(needs, shuffle) == len(whole)
    assert [list(batch.key) for batch in found.batches(needs, shuffle, skip=3)] == whole[3:]


@pytest.mark.parametrize("needs", [Needs(batch_size=16), GROUPED])
def test_ranks_get_equally_many_batches_of_other_cells(results, needs):
    found = DatasetSource(_manifest(results))
    parts = [[list(b.key) for b in found.batches(needs, 4, rank=rank, world=3)] for rank in range(3)]
    assert {len(part) for part in parts} == {found.n_batches(needs, 4, rank=1, world=3)}
    keys = [key for part in parts for batch in part for key in batch]
    assert len(keys) == len(set(keys)) > found.count() - 3 * needs.batch_size


def test_tiles_come_with_the_cells_at_their_own_size_with_their_genes(results):
    found = DatasetSource(_manifest(results), split="train")
    batch = next(found.batches(GROUPED, shuffle=0))
    around = batch.context["niche"]
    assert tuple(around.tiles.image.shape[1:]) == (1, 16, 16)
    assert len(around.tiles.gene_offset) == len(around.tiles.record_id) + 1
    assert [around.tiles.record_id[i] for i in around.row.tolist()] == batch.tiles["niche"]


def test_the_vocabulary_holds_the_meta_cells_of_the_cells(results):
    found = DatasetSource(_manifest(results))
    vocabulary = found.vocabulary
    batch = next(found.batches(Needs(batch_size=1000)))
    assert batch.metacell.max() < len(vocabulary.expression) == len(vocabulary.levels)
    assert vocabulary.expression.shape[1] == len(vocabulary.genes)
    assert set(vocabulary.genes) <= set(found.genes)
    assert (vocabulary.levels >= 0).all()
