from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.models.contract import Needs
from mistline.store.manifest import read_manifest
from mistline.store.reader import ShardReader
from mistline.train.images import open_images
from mistline.train.source import open_source
from tests.unit.stages import patches as made


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return made.cohort(tmp_path_factory.mktemp("patches"))


def test_batches_hold_the_patches_of_their_cells(manifest):
    source = open_source(manifest)
    assert source.channels == ("red", "green", "blue")
    stored = {}
    for slide in "ab":
        folder = manifest.parents[1] / "slides" / slide
        reader, index = ShardReader(folder / "shards/cell"), pd.read_parquet(folder / "shards/cell.parquet")
        stored |= {f"{slide}/{row.cell_id}": reader[row.key].image for row in index.itertuples()}
    for shuffle in (None, 3):
        seen = {}
        for batch in source.batches(Needs(image_size=16, batch_size=32), shuffle=shuffle):
            assert batch.side_um.tolist() == [16.0] * len(batch)
            seen |= dict(zip(batch.key, batch.image.numpy(), strict=True))
        assert set(seen) == set(stored)
        assert all(np.array_equal(seen[key], stored[key]) for key in stored)


def test_patches_are_resized_and_read_by_row(manifest):
    images = open_images(manifest, "a")
    assert images.channels == ("red", "green", "blue")
    rows = np.array([5, 2, 5])
    whole = images(rows, 16)
    assert whole.shape == (3, 3, 16, 16)
    np.testing.assert_array_equal(whole[0], whole[2])
    halved = whole.reshape(3, 3, 8, 2, 8, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(images(rows, 8), halved, atol=0.51)


def test_a_slide_without_image_is_named(tmp_path):
    manifest = made.cohort(tmp_path)
    made.seal(tmp_path, {"a": "da", "b": "db"}, ("a",))
    source = open_source(manifest)
    assert source.channels == ()
    with pytest.raises(InputError, match="slide b is a table that has no images"):
        next(source.batches(Needs(image_size=16)))
    assert next(open_source(manifest, slides=("a",)).batches(Needs(image_size=16))).image is not None
    with pytest.raises(InputError, match="slide b is a table without image"):
        open_images(manifest, "b")


def test_shards_of_another_cut_are_refused(tmp_path):
    manifest = made.cohort(tmp_path)
    sealed = read_manifest(manifest)
    path = sealed.locate(sealed.slides["a"]["patches"]["shards"]["path"]) / "0000.lmdb"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(InputError, match="truncated"):
        open_source(manifest)
